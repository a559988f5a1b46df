//! Whole jobs on real workers: threads of one process, and processes over sockets.

mod jobs;
