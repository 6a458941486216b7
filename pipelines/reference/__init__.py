"""Documents that are made from the code: settings, metrics, Dataflow's templates."""
