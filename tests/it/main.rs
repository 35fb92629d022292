//! Integration tests: the program and the cluster as their users meet them.

mod cli;
