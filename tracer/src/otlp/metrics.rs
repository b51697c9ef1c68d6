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
        .map(|(labels, value)| point(labels, *value, measured))
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

fn point(labels: &Labels, value: Number, measured: &Measured) -> NumberDataPoint {
    let mut attributes = Attributes::default();
    // An empty label is no label for Prometheus, too.
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        attributes.text(name, value.as_str());
    }
    NumberDataPoint {
        attributes: attributes.into_inner(),
        start_time_unix_nano: nanoseconds(measured.since),
        time_unix_nano: nanoseconds(measured.time),
        value: Some(match value {
            Number::Unsigned(number) => Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX)),
            Number::Signed(number) => Value::AsInt(number),
            Number::Float(number) => Value::AsDouble(number),
        }),
        ..NumberDataPoint::default()
    }
}
