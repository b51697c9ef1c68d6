//! What is on the screen after which records and keys?
