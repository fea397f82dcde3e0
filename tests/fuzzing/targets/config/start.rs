//! What was accepted starts: with the certificates, the secrets and the ports of this machine instead of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fedmux::identity::development::write_development_certificates;
use fedmux::relay::settings::{Identity, Settings, Trust};
use fedmux::relay::{Listeners, Relay, StartError};
use fedmux::xmpp::domain::Domain;
use tokio::runtime::Builder;

/// Certificates and a component's secret.
static FILES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = super::FOLDER.join("files");
    let domain = Domain::parse("a1.test").expect("a domain");
    write_development_certificates(&folder, &[domain]).expect("certificates can be made");
    std::fs::write(folder.join("secret"), "secret\n").expect("a file can be written");
    folder
});

/// How often each task of it gets its turn.
const TURNS: usize = 32;
/// Listeners of a kind that are bound: more of them are the same again.
const LISTENERS_MAX: usize = 2;

pub(super) fn starts(settings: &Settings) {
    let settings = here(settings.clone(), &FILES);
    // Its tasks end with it.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = runtime.block_on(async {
        let relay = Relay::start(settings.clone(), Listeners::bind(&settings)?).await?;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        Ok::<_, StartError>(relay.metrics_text())
    });
    match started {
        Ok(metrics) => {
            assert!(metrics.contains("\nfedmux_tasks_failed_total 0\n"), "a task panicked: {settings:#?}")
        }
        Err(error) => panic!("accepted, and doesn't start: {error}\n{settings:#?}"),
    }
}

/// The same settings for this machine.
fn here(mut settings: Settings, files: &Path) -> Settings {
    let ca = files.join("ca.pem");
    settings.identity =
        Identity { certificates: files.join("live"), trust: Trust::File(ca.clone()), mux_key_file: None };
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let lists = [
        &mut settings.remote_quic,
        &mut settings.remote_direct_tls,
        &mut settings.remote_starttls,
        &mut settings.local_s2s,
        &mut settings.local_dns.listen,
        &mut settings.local_components,
        &mut settings.admin_listen,
    ];
    for list in lists {
        list.truncate(LISTENERS_MAX);
        list.fill(any);
    }
    for component in &mut settings.components {
        component.secret_file = files.join("secret");
    }
    for peer in &mut settings.peers {
        peer.trust = peer.trust.take().map(|_| ca.clone());
    }
    settings
}
