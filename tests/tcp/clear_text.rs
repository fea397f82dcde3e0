//! Before TLS nothing is taken but the way to it.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use fedmux::xmpp::namespace as ns;
use tokio::net::TcpStream;

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::wire::{Wire, auth, header, message};

async fn provider() -> Provider {
    Plan::new(&Authority::new(), &["a1.test"]).await.start().await
}

/// A relay that hears `octets` in clear text ends the stream for `reason`.
async fn refuses(octets: &str, condition: &str, reason: Reason) {
    let provider = provider().await;
    let mut wire = Wire::tcp(TcpStream::connect(provider.at(Transport::StartTls)).await.unwrap());
    wire.say(octets).await;
    assert_eq!(wire.expect_error(condition).await, reason.as_str(), "{octets}");
    crate::support::until("the refusal", || provider.metric("fedmux_refusals_total", &[]) == 1).await;
    assert_eq!(provider.refusals(Side::Remote, reason), 1, "{octets}");
    provider.assert_unharmed();
}

#[tokio::test]
async fn nothing_is_authenticated_and_nothing_carried_in_clear_text() {
    let header = header("b1.test", "a1.test");
    let dialback =
        format!("<db:result xmlns:db='{}' from='b1.test' to='a1.test'>k</db:result>", ns::DIALBACK);
    let verify = dialback.replace("db:result", "db:verify").replace(" from", " id='1' from");
    for clear in [auth("b1.test"), dialback, verify, message("b1.test", "a1.test", "x")] {
        refuses(&format!("{header}{clear}"), "policy-violation", Reason::TlsRequired).await;
    }
}

#[tokio::test]
async fn clear_text_behind_starttls_closes_the_connection() {
    let header = header("b1.test", "a1.test");
    for injected in [header.as_str(), " ", &message("b1.test", "a1.test", "x"), "\u{16}\u{3}\u{1}"] {
        let octets = format!("{header}<starttls xmlns='{}'/>{injected}", ns::TLS);
        refuses(&octets, "policy-violation", Reason::StarttlsInjection).await;
    }
}

#[tokio::test]
async fn a_stream_that_is_not_for_us_or_not_xmpp_is_refused_before_tls() {
    refuses(&header("b1.test", "c.test"), "host-unknown", Reason::HostUnknown).await;
    let old = header("b1.test", "a1.test").replace("version='1.0'>", ">");
    refuses(&old, "unsupported-version", Reason::UnsupportedVersion).await;
    refuses("GET / HTTP/1.1\r\n\r\n", "bad-format", Reason::BadFormat).await;
    let client = header("b1.test", "a1.test").replace(ns::SERVER, "jabber:client");
    refuses(&client, "invalid-namespace", Reason::InvalidNamespace).await;
}
