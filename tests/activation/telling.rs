//! What the service manager is told: sd_notify(3).

use std::fs;

use crate::manager::{Manager, at, get};

#[tokio::test]
async fn the_service_manager_is_told_how_the_relay_is() {
    let manager = Manager::new();
    let relay = manager.start_with(manager.sockets.all());
    let told = manager.told("READY=1").await;
    assert!(told.contains("\nSTATUS=taking stanzas for 2 hosts\n"), "{told}");
    assert!(get(at(&manager.sockets.admin), "/ready").await.starts_with("HTTP/1.1 200 "), "it was ready");

    let text = fs::read_to_string(manager.configuration()).unwrap();
    let more = "[[host]]\ndomain = \"c.test\"\ndeliver = \"127.0.0.1:9\"\n";
    fs::write(manager.configuration(), format!("{text}{more}")).unwrap();
    relay.signal("HUP");
    let told = manager.told("RELOADING=1").await;
    let monotonic = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    assert!(monotonic.parse::<u64>().unwrap() > 0, "{told}");
    let told = manager.told("READY=1").await;
    assert!(told.contains("\nSTATUS=taking stanzas for 3 hosts\n"), "{told}");

    fs::write(manager.configuration(), format!("{text}colour = 1\n")).unwrap();
    relay.signal("HUP");
    manager.told("RELOADING=1").await;
    let told = manager.told("READY=1").await;
    assert!(told.contains("\nSTATUS=not reloaded, going on as before: component.colour is not"), "{told}");

    relay.signal("TERM");
    let told = manager.told("STOPPING=1").await;
    assert!(told.contains("\nEXTEND_TIMEOUT_USEC=75000000\n"), "{told}");
    assert_eq!(relay.ended().await.code(), Some(0), "{}", manager.log());
}

#[tokio::test]
async fn a_relay_that_can_not_start_does_not_say_that_it_takes_stanzas() {
    let manager = Manager::new();
    // The ports that it wants are taken, by us.
    let relay = manager.start_with(Vec::new());
    assert_eq!(relay.ended().await.code(), Some(1));
    assert!(manager.told_nothing(), "{}", manager.log());
}
