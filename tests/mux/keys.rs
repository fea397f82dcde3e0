//! Keys rotate while secrets are out: the key that made a secret leaves the folder, and the relay is told so, before the
//! secret has come back. Nothing is lost by it, however often the relay is told.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fedmux::proto::limits::Limits;
use fedmux::reason::Reason;
use fedmux::relay::settings::Endpoint;
use tempfile::TempDir;

use crate::relays::{names, plan};
use crate::scene::{Scene, proofs};
use crate::support::certificates::Authority;
use crate::support::path;
use crate::support::provider::Provider;
use crate::support::server::Host;
use crate::support::soon;

/// A folder of keys, one of which makes secrets.
struct Folder {
    folder: TempDir,
    rotations: u64,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap(), rotations: 0 };
        folder.add();
        folder
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, rotation: u64) -> std::path::PathBuf {
        self.path().join(format!("{rotation}.key"))
    }

    /// The key of this rotation, newer than every other.
    fn add(&self) {
        let file = self.file(self.rotations);
        fedmux::identity::master_key::MasterKey::load_or_create(&file).unwrap();
        let file = std::fs::File::options().write(true).open(&file).unwrap();
        let age = Duration::from_secs(3_600 - self.rotations);
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    /// Another key makes secrets from now on, and the one before has left the folder.
    fn rotate(&mut self, relay: &mut Provider) {
        std::fs::remove_file(self.file(self.rotations)).unwrap();
        self.rotations += 1;
        self.add();
        assert_eq!(relay.reload(|_| {}).changed, ["secrets are made with another key"]);
    }
}

#[tokio::test]
async fn a_secret_is_good_when_its_key_has_left_and_the_relay_was_reloaded_again_and_again() {
    let mut keys = Folder::new();
    let folder = keys.path().to_owned();
    let mut scene = Scene::with(|settings| settings.identity.mux_key_file = Some(folder)).await;
    let secret = scene.secret("n.test").await;
    for _ in 0..3 {
        keys.rotate(&mut scene.relay);
    }
    assert!(scene.offer(&secret).await);
    scene.speaks_for("n.test").await;
    // And the newest key makes secrets.
    let secret = scene.secret("m.test").await;
    assert!(scene.offer(&secret).await);
    assert_eq!(scene.counts(Reason::MuxNoRequest), [2, 0, 0]);
}

/// Two relays with a certificate for each host, far from each other: a secret is on its way for a while.
async fn far_apart(authority: &Authority, hosts: usize, keys: &Path) -> ([Provider; 2], path::Path) {
    const ONE_WAY: Duration = Duration::from_millis(150);
    let mut a = plan(authority, &names('a', hosts)).await;
    let mut b = plan(authority, &names('b', hosts)).await;
    a.settings.identity.mux_key_file = Some(keys.to_owned());
    let (at_a, at_b) = (a.listeners(), b.listeners());
    let path = path::Path::between(at_a.remote_quic()[0], at_b.remote_quic()[0], ONE_WAY).await;
    for (plan, peer) in [(&mut a, path.far_as_seen), (&mut b, path.near_as_seen)] {
        plan.settings.peers[0].address = Endpoint::Address(peer);
        // Nobody falls silent before the test is over.
        plan.settings.limits = Limits::default();
    }
    ([a.start_on(at_a).await, b.start_on(at_b).await], path)
}

#[tokio::test]
async fn keys_that_rotate_under_load_while_secrets_are_out_lose_nothing() {
    const HOSTS: usize = 12;
    let mut keys = Folder::new();
    let authority = Authority::new();
    let ([mut a, mut b], _path) = far_apart(&authority, HOSTS, keys.path()).await;
    let (to_a, to_b) = (names('a', HOSTS), names('b', HOSTS));
    let mut a_hosts: Vec<Host> = to_a.iter().map(|name| a.host(name)).collect();
    let mut b_hosts: Vec<Host> = to_b.iter().map(|name| b.host(name)).collect();
    b_hosts[0].send(&to_a[0], "0").await;
    assert_eq!(a_hosts[0].receive().await.attribute("id"), Some("0"));

    let (mut sent, mut between) = (0, 0);
    soon("every host to join", async {
        while proofs(&a, "granted") < 2 * (HOSTS as u64 - 1) {
            assert_eq!([proofs(&a, "refused"), proofs(&b, "refused")], [0, 0]);
            if sent < 50 {
                sent += 1;
                for n in 1..HOSTS {
                    b_hosts[n].send(&to_a[n], &sent.to_string()).await;
                }
            }
            let open = |a: &Provider| a.metric("fedmux_proof_requests_open", &[]);
            if between < 3 && open(&a) > 0 {
                keys.rotate(&mut a);
                keys.rotate(&mut a);
                // The way back takes longer than that: these are the secrets that were out before.
                between += u32::from(open(&a) > 0);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(between > 0, "no secret was out while its key went");
    assert_eq!([proofs(&a, "refused"), proofs(&b, "refused")], [0, 0]);
    for host in &mut a_hosts[1..] {
        for id in 1..=sent {
            let heard = host.receive().await;
            let of = |name| heard.attribute(name);
            assert_eq!((of("type"), of("id")), (Some("chat"), Some(&*id.to_string())), "{heard:?}");
        }
        assert!(host.received().is_none());
    }
    for relay in [&a, &b] {
        relay.assert_unharmed();
        relay.is_balanced().await;
    }
}
