//! What was measured → metrics. Pure.
//!
//! Names are those of docs/metrics.md, `tracer_` written as `tracer.`: a Prometheus
//! that takes OTLP then calls them as if it had scraped them.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        metric::Data, number_data_point::Value,
    },
    resource::v1::Resource,
};

use super::{attributes::Attributes, logs::nanoseconds, resource};
use crate::metrics::{
    family::{Family, Labels, Number, Sort},
    source::Measured,
};

/// All that was measured, from this sender.
pub(super) fn request(measured: &Measured, from: &Resource) -> ExportMetricsServiceRequest {
    let families = measured.families.0.iter();
    // One without samples says nothing.
    let families = families.filter(|family| !family.samples.is_empty());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(from.clone()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(resource::scope()),
                metrics: families.map(|family| metric(family, measured)).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(family: &Family, measured: &Measured) -> Metric {
    let points = family.samples.iter();
    let data_points = points
        .map(|(labels, value)| point(labels, *value, family.sort, measured))
        .collect();
    let data = match family.sort {
        Sort::Counter => Data::Sum(Sum {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        Sort::Gauge | Sort::Seconds => Data::Gauge(Gauge { data_points }),
    };
    let unit = match family.sort {
        Sort::Seconds => "s",
        Sort::Counter | Sort::Gauge => "",
    };
    Metric {
        name: family.name.replacen('_', ".", 1),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn point(labels: &Labels, value: Number, sort: Sort, measured: &Measured) -> NumberDataPoint {
    let mut attributes = Attributes::default();
    // An empty label is no label for Prometheus, too.
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        attributes.text(name, value.as_str());
    }
    NumberDataPoint {
        attributes: attributes.into_inner(),
        // 0: a gauge has none.
        start_time_unix_nano: match sort {
            Sort::Counter => nanoseconds(measured.since),
            Sort::Gauge | Sort::Seconds => 0,
        },
        time_unix_nano: nanoseconds(measured.time),
        value: Some(match value {
            Number::Unsigned(number) => Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX)),
            Number::Signed(number) => Value::AsInt(number),
            Number::Float(number) => Value::AsDouble(number),
        }),
        ..NumberDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::metrics::family::Families;

    fn metrics() -> Result<Vec<Metric>> {
        let mut families = Families::default();
        let labels = vec![
            ("kind", "syn_dropped".to_owned()),
            ("container", String::new()),
        ];
        families.counter("tracer_failures_described", "Told.", [(labels, 7_u64)]);
        families.number("tracer_kernel_difference", "Odd.", -1_i64);
        families.moment("tracer_start_time", "When.", 0.5);
        families.counter("tracer_nothing", "None.", []);
        let measured = Measured {
            since: Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(1),
            time: Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(2),
            families,
        };
        let mut request = request(&measured, &Resource::default());
        let resource = request.resource_metrics.pop().context("no resource")?;
        let scope = resource.scope_metrics.into_iter().next();
        Ok(scope.context("no scope")?.metrics)
    }

    #[test]
    fn a_counter_is_a_sum_since_tracer_was_attached() -> Result<()> {
        let metrics = metrics()?;
        let Some(Data::Sum(sum)) = &metrics[0].data else {
            anyhow::bail!("{metrics:?}");
        };
        assert_eq!(metrics[0].name, "tracer.failures_described");
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let point = &sum.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        assert_eq!(point.value, Some(Value::AsInt(7)));
        let names: Vec<_> = point.attributes.iter().map(|one| &*one.key).collect();
        assert_eq!(names, ["kind"]);
        Ok(())
    }

    #[test]
    fn all_else_is_a_gauge() -> Result<()> {
        let metrics = metrics()?;
        let told: Vec<_> = metrics[1..]
            .iter()
            .filter_map(|metric| match &metric.data {
                Some(Data::Gauge(gauge)) => {
                    let point = &gauge.data_points[0];
                    assert_eq!(point.start_time_unix_nano, 0);
                    Some((&*metric.name, &*metric.unit, point.value))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            told,
            [
                ("tracer.kernel_difference", "", Some(Value::AsInt(-1))),
                ("tracer.start_time", "s", Some(Value::AsDouble(0.5))),
            ]
        );
        // What has no samples is not told.
        assert_eq!(metrics.len(), 3);
        Ok(())
    }
}
