"""Documents that are made from the code: the tables in docs/reference, Dataflow's templates."""
