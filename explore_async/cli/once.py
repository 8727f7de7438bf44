"""A command whose options take one value each, unless they are lists: none is dropped silently."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


class OnceCommand(TyperCommand):
    """Refuses an option of one value that is given twice. Flags may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        _, _, order = self.make_parser(ctx).parse_args(args=given)
        for option in order:
            if isinstance(option, TyperOption) and not (option.multiple or option.is_flag) and order.count(option) > 1:
                ctx.fail(f"{option.opts[0]} is given twice, and takes one value")
        return rest
