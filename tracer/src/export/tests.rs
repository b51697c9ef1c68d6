//! Records → rows, and both formats read again.

use ::parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Sheet,
    column::{Cell, Holds},
    csv::Csv,
    parquet::Parquet,
    rows::{Rows, Told},
    table::Table,
};

const DOCS: &str = include_str!("../../../docs/export.md");

const TABLES: [Table; 4] = [Table::Events, Table::Censuses, Table::Queues, Table::Totals];

/// What the documentation calls it.
fn documented(holds: Holds) -> &'static str {
    match holds {
        Holds::Time => "time",
        Holds::Word | Holds::Sentence | Holds::Ids | Holds::Address => "words",
        Holds::Text => "text",
        Holds::Json => "json",
        Holds::Bool => "bool",
        Holds::Port | Holds::U16 => "u16",
        Holds::Length | Holds::U32 => "u32",
        Holds::U64 => "u64",
        Holds::I32 => "i32",
        Holds::I64 => "i64",
        Holds::F64 => "f64",
    }
}

/// The columns and their types, as the section of that name lists them.
fn listed(section: &str) -> Vec<(&str, &str)> {
    let begin = format!("\n## {section}\n");
    let text = DOCS.split_once(&begin).map_or("", |(_, rest)| rest);
    let text = text.split("\n## ").next().unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name, cells.next()?))
        })
        .collect()
}

#[test]
fn every_column_is_documented() {
    for table in TABLES {
        let all = [listed("All tables"), listed(table.name())].concat();
        let columns = table.columns();
        let columns: Vec<_> = columns
            .iter()
            .map(|column| (column.name, documented(column.holds)))
            .collect();
        assert_eq!(columns, all, "{table:?}");
    }
}

fn startup(boot: &str) -> Value {
    json!({ "v": 1, "type": "startup", "time": "2026-11-21T03:00:00Z", "host": "db7", "boot_id": boot })
}

fn event() -> Value {
    json!({
        "v": 1, "type": "event", "time": "2026-11-21T03:00:01.25Z", "kind": "syn_dropped",
        "cause": "accept_queue_full", "errno": null, "count": 1,
        "process": {
            "pid": 7, "tid": null, "comm": "=a,\"\u{0}\u{1b}", "exe": "", "cmdline": null,
            "uid": u32::MAX, "kernel": false, "role": "acceptor",
        },
        "holders": [{ "pid": 7 }], "netns": 4_026_531_840_u32, "family": "ipv6", "protocol": "tcp",
        "local": "[::1]:80", "remote": "[fe80::1]:65535", "socket": { "inode": u64::MAX },
        "accept_queue": { "len": 3, "max": 2, "asked": -1, "somaxconn": 4096 },
        "request_queue": { "len": 0, "max": 1 }, "syncookie": false, "port_range": null,
        "census": null, "queue": 5, "hook": "x", "unheard_of": [1],
    })
}

/// The rows of a table as `name=cell` for all that is not null, and what is told.
fn rows(table: Table, records: &[Value]) -> (Vec<String>, Told) {
    let columns = table.columns();
    let mut rows = Rows::new(table);
    let mut told = Vec::new();
    for record in records {
        let made: Result<(), ()> = rows.make(record.clone(), 1, |row| {
            let cells = columns.iter().map(|column| (column.name, column.cell(row)));
            let told_of = cells
                .filter(|(_, cell)| *cell != Cell::Null)
                .map(|(name, cell)| match cell {
                    Cell::Text(text) => format!("{name}={text}"),
                    Cell::Unsigned(number) => format!("{name}={number}"),
                    Cell::Signed(number) => format!("{name}={number}"),
                    cell => format!("{name}={cell:?}"),
                });
            told.push(told_of.collect::<Vec<_>>().join(" "));
            Ok(())
        });
        assert_eq!(made, Ok(()));
    }
    (told, rows.told)
}

#[test]
fn an_event_is_a_row() {
    let (rows, told) = rows(Table::Events, &[startup("b"), event()]);
    let expected = "time=Time(1795230001250000) host=db7 boot_id=b run=Time(1795230000000000) \
        netns=4026531840 kind=syn_dropped cause=accept_queue_full count=1 family=ipv6 protocol=tcp \
        local_address=::1 local_port=80 remote_address=fe80::1 remote_port=65535 \
        socket_inode=18446744073709551615 pid=7 comm==a,\"\u{0}\u{1b} exe= uid=4294967295 \
        kernel=Bool(false) role=acceptor holder_count=1 holders=[{\"pid\":7}] accept_queue_len=3 \
        accept_queue_max=2 accept_queue_asked=-1 accept_queue_somaxconn=4096 request_queue_len=0 \
        request_queue_max=1 syncookie=Bool(false) queue=5 hook=x";
    assert_eq!(rows, [expected]);
    assert_eq!(told, Told::default());
}

#[test]
fn a_census_has_a_row_for_each_holder() {
    let holder = |owner: &str, ports: u64| json!({ "owner": owner, "ports": ports, "processes": [{ "pid": ports }] });
    let census = json!({
        "type": "census", "id": 3, "free": 1, "advice": [{ "id": "a", "text": "A." }, { "id": "b" }],
        "parts": [
            { "state": "time_wait", "ports": 5, "holders": [holder("process", 4), holder("kernel", 1)] },
            { "state": "listening", "ports": 2, "holders": [] },
        ],
    });
    let none = json!({ "type": "census", "id": 4, "unavailable": "busy" });
    let (told, _) = rows(Table::Censuses, &[census, none]);
    assert_eq!(
        told,
        [
            "census=3 free=1 advice=a b state=time_wait state_ports=5 owner=process ports=4 pid=4 processes=[{\"pid\":4}]",
            "census=3 free=1 advice=a b state=time_wait state_ports=5 owner=kernel ports=1 pid=1 processes=[{\"pid\":1}]",
            "census=3 free=1 advice=a b state=listening state_ports=2",
            "census=4 unavailable=busy",
        ]
    );
    let many = vec![json!({ "holders": [1, 2] }); 3000];
    let (told, left) = rows(
        Table::Censuses,
        &[json!({ "type": "census", "parts": many })],
    );
    assert_eq!((told.len(), left.rows), (4096, 6000 - 4096));
}

#[test]
fn totals_stand_beside_the_events_of_their_run() {
    let count = |netns: u32, count: u64| json!({ "netns": netns, "kind": "syn_dropped", "cause": "accept_queue_full", "count": count });
    let totals = json!({
        "type": "totals", "final": true, "counted": 9, "described": 8, "lost": 1,
        "counts": [count(4_026_531_840, 3), count(1, 6)],
    });
    let empty = json!({ "type": "totals", "counted": 0, "counts": [] });
    let records = [
        startup("b"),
        event(),
        event(),
        totals.clone(),
        empty,
        startup("c"),
        event(),
        totals.clone(),
        startup("b"),
        event(),
        totals,
    ];
    let (told, _) = rows(Table::Totals, &records);
    let compared: Vec<_> = told
        .iter()
        .map(|row| {
            let words = row.split(' ');
            let wanted = ["boot_id=", "counted=", "events=", "missing=", "all_lost="];
            let told = words.filter(|word| wanted.iter().any(|wanted| word.starts_with(wanted)));
            told.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        compared,
        [
            "boot_id=b counted=3 events=2 missing=1 all_lost=1",
            "boot_id=b counted=6 events=0 missing=6 all_lost=1",
            "boot_id=b",
            "boot_id=c counted=3 events=1 missing=2 all_lost=1",
            "boot_id=c counted=6 events=0 missing=6 all_lost=1",
            "boot_id=b counted=3 events=3 missing=0 all_lost=1",
            "boot_id=b counted=6 events=0 missing=6 all_lost=1",
        ]
    );
}

#[test]
fn what_is_left_out_is_counted() {
    let records = [
        json!({ "v": 2, "type": "event" }),
        json!({ "type": "portrait" }),
        json!({ "type": 7 }),
        json!({ "type": "gap", "records": 5 }),
        json!({ "type": "lost", "count": u64::MAX }),
        json!({ "type": "lost", "count": 1 }),
        json!({ "type": "end" }),
        json!({ "type": "event", "kind": "x".repeat(100), "pid": 1, "process": 3 }),
    ];
    let (told, left) = rows(Table::Events, &records);
    // Ten columns of the process, its role, and the kind.
    assert_eq!(told[0].matches("=Wrong").count(), 12, "{told:?}");
    let expected = Told {
        unknown: 3,
        gaps: 5,
        lost: u64::MAX,
        ..Told::default()
    };
    assert_eq!(left, expected);
}

/// All events of `count` runs of rows through a sheet.
fn write<S: Sheet>(mut sheet: S, times: usize) -> Result<()> {
    let columns = Table::Events.columns();
    let mut rows = Rows::new(Table::Events);
    for record in [startup("b"), event(), json!({ "v": 1, "type": "event" })] {
        for _ in 0..times {
            rows.make(record.clone(), 1, |row| {
                let cells: Vec<_> = columns.iter().map(|column| column.cell(row)).collect();
                sheet.row(&cells)
            })?;
        }
    }
    sheet.finish()
}

#[test]
fn parquet_reads_back() -> Result<()> {
    let columns = Table::Events.columns();
    let mut bytes = Vec::new();
    write(Parquet::new(&mut bytes, Table::Events, &columns)?, 2)?;
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes))?;
    let rows = reader.get_row_iter(None)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(rows.len(), 4);
    let field = |row: usize, name: &str| {
        let mut fields = rows.get(row)?.get_column_iter();
        fields
            .find(|(column, _)| *column == name)
            .map(|(_, field)| field.clone())
    };
    for (name, expected) in [
        ("time", Field::TimestampMicros(1_795_230_001_250_000)),
        ("comm", Field::Str("=a,\"\u{0}\u{1b}".into())),
        ("exe", Field::Str(String::new())),
        ("cmdline", Field::Null),
        ("uid", Field::UInt(u32::MAX)),
        ("socket_inode", Field::ULong(u64::MAX)),
        ("local_port", Field::UShort(80)),
        ("accept_queue_asked", Field::Int(-1)),
        ("kernel", Field::Bool(false)),
        ("census", Field::Null),
    ] {
        assert_eq!(field(1, name).context(name)?, expected, "{name}");
    }
    for (_, field) in rows.last().context("no row")?.get_column_iter().skip(4) {
        assert_eq!(*field, Field::Null);
    }
    Ok(())
}

#[test]
fn csv_reads_back() -> Result<()> {
    let columns = Table::Events.columns();
    let mut bytes = Vec::new();
    write(Csv::new(&mut bytes, &columns, false)?, 1)?;
    let mut reader = ::csv::Reader::from_reader(&bytes[..]);
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    assert_eq!(reader.headers()?, names);
    let rows = reader.records().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(rows.len(), 2);
    let comm = names
        .iter()
        .position(|name| *name == "comm")
        .context("comm")?;
    assert_eq!(&rows[0][comm], "=a,\"\u{0}\u{1b}");
    Ok(())
}

/// Rows wait in bounded memory: a group is written when it is large enough.
#[test]
fn row_groups_are_bounded() -> Result<()> {
    let columns = Table::Events.columns();
    let mut bytes = Vec::new();
    let mut sheet = Parquet::new(&mut bytes, Table::Events, &columns)?;
    let long = "x".repeat(1 << 20);
    let cells: Vec<_> = columns
        .iter()
        .map(|column| match column.name {
            "comm" => Cell::Text(long.as_str().into()),
            _ => Cell::Null,
        })
        .collect();
    for _ in 0..60 {
        sheet.row(&cells)?;
    }
    sheet.finish()?;
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes))?;
    let groups = reader.metadata().row_groups().iter();
    let rows: Vec<_> = groups.map(|group| group.num_rows()).collect();
    assert_eq!(rows, [24, 24, 12]);
    Ok(())
}
