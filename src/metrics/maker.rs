//! Makes metrics as the catalogue declares them.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::catalogue::{Declared, Kind, declared};

/// Makes and registers. A name that isn't declared, is declared otherwise or used twice is a defect, which a test would show; the
/// metric then simply isn't exported.
pub(super) struct Maker {
    pub(super) registry: Registry,
    made: RefCell<Vec<&'static str>>,
}

impl Maker {
    pub(super) fn new() -> Self {
        Self { registry: Registry::new(), made: RefCell::default() }
    }

    /// The names of what was made.
    pub(super) fn into_made(self) -> (Registry, Vec<&'static str>) {
        (self.registry, self.made.into_inner())
    }

    fn declared(&self, name: &str, is: impl FnOnce(Kind) -> bool) -> Option<&'static Declared> {
        let metric = declared(name)?;
        self.made.borrow_mut().push(metric.name);
        is(metric.kind).then_some(metric)
    }

    fn options(metric: &Declared) -> Opts {
        Opts::new(metric.name, metric.help)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: Result<M, prometheus::Error>) -> Option<M> {
        let metric = metric.ok()?;
        self.registry.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }

    pub(super) fn counters(&self, name: &str) -> Option<IntCounterVec> {
        let metric = self.declared(name, |kind| kind == Kind::Counter)?;
        self.register(IntCounterVec::new(Self::options(metric), metric.labels))
    }

    /// Counters of what comes in parts, like seconds.
    pub(super) fn sums(&self, name: &str) -> Option<CounterVec> {
        let metric = self.declared(name, |kind| kind == Kind::Counter)?;
        self.register(CounterVec::new(Self::options(metric), metric.labels))
    }

    pub(super) fn counter(&self, name: &str) -> Option<IntCounter> {
        let metric = self.declared(name, |kind| kind == Kind::Counter)?;
        self.register(IntCounter::with_opts(Self::options(metric)))
    }

    pub(super) fn gauges(&self, name: &str) -> Option<IntGaugeVec> {
        let metric = self.declared(name, |kind| kind == Kind::Gauge)?;
        self.register(IntGaugeVec::new(Self::options(metric), metric.labels))
    }

    /// Gauges of what comes in parts, like seconds.
    pub(super) fn measures(&self, name: &str) -> Option<GaugeVec> {
        let metric = self.declared(name, |kind| kind == Kind::Gauge)?;
        self.register(GaugeVec::new(Self::options(metric), metric.labels))
    }

    pub(super) fn gauge(&self, name: &str) -> Option<IntGauge> {
        let metric = self.declared(name, |kind| kind == Kind::Gauge)?;
        self.register(IntGauge::with_opts(Self::options(metric)))
    }

    pub(super) fn measure(&self, name: &str) -> Option<Gauge> {
        let metric = self.declared(name, |kind| kind == Kind::Gauge)?;
        self.register(Gauge::with_opts(Self::options(metric)))
    }

    pub(super) fn histograms(&self, name: &str) -> Option<HistogramVec> {
        let metric = self.declared(name, |kind| matches!(kind, Kind::Histogram(_)))?;
        let Kind::Histogram(buckets) = metric.kind else { return None };
        let options = HistogramOpts::new(metric.name, metric.help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, metric.labels))
    }
}
