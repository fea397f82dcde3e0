//! The local side: our own XMPP servers reach us as an ordinary server-to-server destination, and we deliver to them as an
//! ordinary peer.
//!
//! - [`listener`]: streams that they open; [`authority`]: who of them may speak for which host
//! - [`component`]: components, which open a stream each
//! - [`deliver`]: streams that we open to them; [`verify`]: the question of dialback; [`server`]: where they are

pub(crate) mod authority;
pub(crate) mod component;
pub(crate) mod deliver;
pub(crate) mod listener;
pub(crate) mod server;
pub(crate) mod verify;
