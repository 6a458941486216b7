"""Jobs (resubmissions) as durable rows of the index store, changed only by compare-and-set.

Whoever works on a job holds its lease and renews it; a lease that has run out says that its holder is
gone, and anybody may take the job up. The API and the command share this.
"""
