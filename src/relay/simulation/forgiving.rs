//! What came back once is forgotten, and costs nobody anything from then on.

use std::time::Duration;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::proto::admission::Side;
use crate::relay::budgets::Meter;
use crate::relay::clock;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

#[tokio::test(start_paused = true)]
async fn what_came_back_of_a_route_that_is_quiet_since_costs_no_other_one() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let route = |from| Route::new(Domain::parse(from).unwrap(), Domain::parse("a0.test").unwrap());
    let rates = hub.limits.rates;
    let mut meter = Meter::new(&hub, Side::Remote, None);
    // More than may: its route waits, and no other one does.
    hub.budgets.bounced(&route("b0.test"), 1_500, rates, clock::now());
    meter.charge(Some(&route("b1.test")), 1, 100);
    assert_eq!((meter.take_hold(), hub.budgets.bounces_remembered()), (None, (true, 1)));
    meter.charge(Some(&route("b0.test")), 1, 100);
    assert_eq!(meter.take_hold().map(|hold| hold.until), Some(clock::now() + Duration::from_secs(5)));
    // Until the last of them is whole again, nothing is forgotten.
    tokio::time::advance(Duration::from_secs(10)).await;
    hub.budgets.bounced(&route("b2.test"), 1_500, rates, clock::now());
    tokio::time::advance(rates.burst).await;
    meter.charge(Some(&route("b1.test")), 1, 100);
    assert!(hub.budgets.bounces_remembered().0);
    tokio::time::advance(rates.burst).await;
    meter.charge(Some(&route("b1.test")), 1, 100);
    assert_eq!((meter.take_hold(), hub.budgets.bounces_remembered()), (None, (false, 0)));
    // And it begins anew.
    hub.budgets.bounced(&route("b0.test"), 1_500, rates, clock::now());
    meter.charge(Some(&route("b0.test")), 1, 100);
    assert!(meter.take_hold().is_some() && hub.budgets.bounces_remembered() == (true, 1));
}
