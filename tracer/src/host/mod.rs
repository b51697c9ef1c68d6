//! What this machine offers, and what to do with it.
//!
//! [`facts`] probes and decides nothing; [`plan`] decides and probes nothing.
//! [`netns`], [`sock_diag`] (or [`proc_net`]), [`addresses`] and [`settings`] show one
//! network namespace.

pub(crate) mod addresses;
pub(crate) mod attempt;
pub(crate) mod btf;
pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod facts;
pub(crate) mod hidepid;
pub(crate) mod memory;
pub(crate) mod mountinfo;
pub(crate) mod mounts;
pub(crate) mod netns;
pub(crate) mod pid_namespace;
pub(crate) mod plan;
pub(crate) mod private_net;
pub(crate) mod privileges;
pub(crate) mod proc_net;
pub(crate) mod reduce;
pub(crate) mod settings;
pub(crate) mod sock_diag;
