//! The text that scrapers read: families, and the older form of all of it. Pure.

use std::{collections::HashSet, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

pub(super) type Labels = Vec<(&'static str, String)>;

/// Labels and value.
pub(super) type Sample<T> = (Labels, T);

pub(super) fn counter(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<u64>>,
) -> fmt::Result {
    family(to, name, help, None, MetricType::Counter, samples, |n| {
        ConstCounter::new(n)
    })
}

pub(super) fn gauge<T: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<T>>,
) -> fmt::Result {
    family(to, name, help, None, MetricType::Gauge, samples, |n| {
        ConstGauge::new(n)
    })
}

/// The name gets `_seconds`.
pub(super) fn seconds(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<f64>>,
) -> fmt::Result {
    let unit = Some(Unit::Seconds);
    family(to, name, help, unit, MetricType::Gauge, samples, |n| {
        ConstGauge::new(n)
    })
}

fn family<T, M: EncodeMetric>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric_type: MetricType,
    samples: impl IntoIterator<Item = Sample<T>>,
    metric: impl Fn(T) -> M,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, unit.as_ref(), metric_type)?;
    for (labels, value) in samples {
        metric(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A metric without labels.
fn single(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: impl EncodeMetric,
) -> fmt::Result {
    metric.encode(to.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
}

pub(super) fn total(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    count: u64,
) -> fmt::Result {
    single(to, name, help, None, ConstCounter::new(count))
}

pub(super) fn number<T: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: T,
) -> fmt::Result {
    single(to, name, help, None, ConstGauge::new(value))
}

/// The name gets `_seconds`.
pub(super) fn moment(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> fmt::Result {
    let unit = Some(Unit::Seconds);
    single(to, name, help, unit, ConstGauge::new(value))
}

/// OpenMetrics in the older form: the whole name of a counter stands in its
/// comments too, and there are neither units nor an end.
pub(super) fn classic(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                classic.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form() {
        let text = concat!(
            "# HELP a Help for a.\n# TYPE a counter\na_total{x=\"# TYPE b counter\"} 1\n",
            "# HELP b_seconds Help for b.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\n",
            "b_seconds 1.5\n# EOF\n"
        );
        let expected = concat!(
            "# HELP a_total Help for a.\n# TYPE a_total counter\na_total{x=\"# TYPE b counter\"} 1\n",
            "# HELP b_seconds Help for b.\n# TYPE b_seconds gauge\nb_seconds 1.5\n"
        );
        assert_eq!(classic(text), expected);
    }
}
