"""Commands on data: each has a module here. Files of rows are in files/, tasks and examples in collections/."""
