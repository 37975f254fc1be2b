"""How an application answers: handlers, the scripts that carry them through a service, and the faces that run those."""
