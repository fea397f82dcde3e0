//! Floor 2: transports. What octets travel over, and how it is tuned; nothing here knows XMPP.

pub mod congestion;
pub mod quic;
pub mod tls;
