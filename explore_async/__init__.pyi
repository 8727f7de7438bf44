# The public names: type checkers read them here, and __init__.py imports each at its first use.

from explore_async.analysis.command import analyze_data
from explore_async.analysis.result import Analysis as Analysis
from explore_async.analysis.result import SetFigures as SetFigures
from explore_async.config.load import load as load
from explore_async.curation.collections.data_set import DataSet as DataSet
from explore_async.curation.collections.data_set import Evidence as Evidence
from explore_async.curation.collections.data_set import Example as Example
from explore_async.curation.collections.data_set import Task as Task
from explore_async.curation.collections.data_set import Verdict as Verdict
from explore_async.curation.collections.open import open_data
from explore_async.curation.decontamination import DecontaminationResult as DecontaminationResult
from explore_async.curation.decontamination import decontaminate_data
from explore_async.curation.dedup import DedupResult as DedupResult
from explore_async.curation.dedup import Duplicate as Duplicate
from explore_async.curation.dedup import dedup as dedup
from explore_async.curation.dedup_files import DedupCounts as DedupCounts
from explore_async.curation.dedup_files import dedup_files as dedup_files
from explore_async.curation.export_writing import ExportResult as ExportResult
from explore_async.curation.exporting import export_data, sample_data
from explore_async.curation.filtering import FilterResult as FilterResult
from explore_async.curation.filtering import filter_data, merge_data, reparse_run
from explore_async.curation.importing import ImportResult as ImportResult
from explore_async.curation.importing import import_data as import_data
from explore_async.curation.pruning import PruneResult as PruneResult
from explore_async.curation.pruning import prune_data
from explore_async.curation.publishing import push_data
from explore_async.errors import ConfigError as ConfigError
from explore_async.errors import ContextOverflow as ContextOverflow
from explore_async.errors import DamagedStore as DamagedStore
from explore_async.errors import DataError as DataError
from explore_async.errors import EndpointError as EndpointError
from explore_async.errors import EndpointUnavailable as EndpointUnavailable
from explore_async.errors import ExploreError as ExploreError
from explore_async.errors import RateLimited as RateLimited
from explore_async.errors import RequestRejected as RequestRejected
from explore_async.errors import ServerError as ServerError
from explore_async.errors import StorageError as StorageError
from explore_async.errors import SystemLimit as SystemLimit
from explore_async.evaluation.comparison import ComparisonResult as ComparisonResult
from explore_async.evaluation.figures import Figures as Figures
from explore_async.evaluation.judging import judge_data
from explore_async.evaluation.judging import judge_sync as judge_sync
from explore_async.evaluation.scoring import ScoreResult as ScoreResult
from explore_async.evaluation.scoring import score_data
from explore_async.evaluation.scoring import score_sync as score_sync
from explore_async.exploration.explorer import Explorer as Explorer
from explore_async.exploration.play import Source as Source
from explore_async.exploration.play import play as play
from explore_async.exploration.prompts import PromptBook as PromptBook
from explore_async.exploration.values import ChatRequest as ChatRequest
from explore_async.exploration.values import Completion as Completion
from explore_async.exploration.values import Event as Event
from explore_async.exploration.values import ExampleDropped as ExampleDropped
from explore_async.exploration.values import ExampleKept as ExampleKept
from explore_async.exploration.values import Failure as Failure
from explore_async.exploration.values import Outcome as Outcome
from explore_async.exploration.values import Request as Request
from explore_async.exploration.values import RequestFailed as RequestFailed
from explore_async.exploration.values import TaskAdded as TaskAdded
from explore_async.exploration.values import TaskDropped as TaskDropped
from explore_async.exploration.values import TaskExhausted as TaskExhausted
from explore_async.running.observer import Observer as Observer
from explore_async.running.observer import RunInProgress as RunInProgress
from explore_async.running.observer import SilentObserver as SilentObserver
from explore_async.running.observer import Snapshot as Snapshot
from explore_async.running.result import Ending as Ending
from explore_async.running.result import RunResult as RunResult
from explore_async.running.result import RunStats as RunStats
from explore_async.running.revising import answer_data, rate_data
from explore_async.running.revising import answer_sync as answer_sync
from explore_async.running.revising import rate_sync as rate_sync
from explore_async.running.start import Mode as Mode
from explore_async.running.start import run as run
from explore_async.running.start import run_sync as run_sync
from explore_async.settings.operation import EndpointSettings as EndpointSettings
from explore_async.settings.operation import Operation as Operation
from explore_async.settings.operation import Retries as Retries
from explore_async.settings.operation import ServerSettings as ServerSettings
from explore_async.settings.recipe import Domain as Domain
from explore_async.settings.recipe import Exploration as Exploration
from explore_async.settings.recipe import Filters as Filters
from explore_async.settings.recipe import Generation as Generation
from explore_async.settings.recipe import Recipe as Recipe
from explore_async.settings.recipe import Sampling as Sampling
from explore_async.settings.recipe import Samplings as Samplings
from explore_async.settings.recipe import SeedExample as SeedExample
from explore_async.settings.recipe import SeedTask as SeedTask
from explore_async.settings.recipe import Targets as Targets
from explore_async.settings.run_settings import RunSettings as RunSettings

analyze = analyze_data
answer = answer_data
rate = rate_data
judge = judge_data
score = score_data
open = open_data
decontaminate = decontaminate_data
export = export_data
sample = sample_data
filter = filter_data
merge = merge_data
reparse = reparse_run
prune = prune_data
push = push_data

__version__: str
