"""One module a data set, found by its name. What a module offers is `ddl.data.sources.Recipe`."""
