//! Why did it fail, and who is to blame? A failure names the victim; what is
//! here names the culprit and the remedy.
//!
//! [`worker`] takes a [`snapshot`] of the sockets in the failure's network
//! namespace (facts), [`census`] says where the ports went (pure), [`queue`]
//! follows the queue drops of each listener (pure), [`neighbours`] looks for
//! their clients in other namespaces (facts), [`ghosts`] finds the clients that
//! were let down by them (pure), [`advice`] says what to do about either (pure).

pub(crate) mod advice;
pub(crate) mod bound;
pub(crate) mod census;
pub(crate) mod closers;
pub(crate) mod desk;
pub(crate) mod finding;
pub(crate) mod ghosts;
pub(crate) mod neighbours;
pub(crate) mod owners;
pub(crate) mod queue;
pub(crate) mod snapshot;
pub(crate) mod worker;
