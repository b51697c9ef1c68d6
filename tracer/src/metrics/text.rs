//! The text that scrapers read, in both forms. Pure.

use std::{collections::HashSet, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::family::{Families, Family, Number, Sort};

/// All families in OpenMetrics.
///
/// # Errors
/// None: writing to a text does not fail.
pub(super) fn open_metrics(families: Families) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = self.0.iter();
        families.try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (sort, unit) = match self.sort {
            Sort::Counter => (MetricType::Counter, None),
            Sort::Gauge => (MetricType::Gauge, None),
            // The name gets `_seconds`.
            Sort::Seconds => (MetricType::Gauge, Some(Unit::Seconds)),
        };
        let mut family = to.encode_descriptor(self.name, self.help, unit.as_ref(), sort)?;
        for (labels, value) in &self.samples {
            if labels.is_empty() {
                // There is no other.
                return self.value(*value, family);
            }
            self.value(*value, family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn value(&self, value: Number, to: MetricEncoder<'_>) -> fmt::Result {
        match (self.sort, value) {
            (Sort::Counter, Number::Unsigned(count)) => ConstCounter::new(count).encode(to),
            (_, Number::Unsigned(number)) => ConstGauge::new(number).encode(to),
            (_, Number::Signed(number)) => ConstGauge::new(number).encode(to),
            (_, Number::Float(number)) => ConstGauge::new(number).encode(to),
        }
    }
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
