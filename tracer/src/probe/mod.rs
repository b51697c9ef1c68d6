//! Applies a plan: loads, attaches, and reports for each purpose what became
//! of it. What a kernel refuses is found out here, by trying.

mod attach;
mod functions;
mod missed;

use std::{fs::File, path::Path};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData, PerCpuArray},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tracer_common::{Config, Filter};
use zerocopy::IntoBytes;

use crate::host::{
    facts::Facts,
    mountinfo,
    mounts::PrivateView,
    plan::{Attachment, Candidate, Exactness, Group, Plan, Purpose, Tier},
};

pub(crate) use missed::Missed;

/// The eBPF object, built by `cargo xtask ebpf` and compressed by build.rs.
static PACKED_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tracer.bpf.o.zst"));

include!(concat!(env!("OUT_DIR"), "/object_size.rs"));

/// The eBPF object as words: aya wants it aligned.
fn object() -> Result<Vec<u64>> {
    let mut words = vec![0_u64; OBJECT_SIZE.div_ceil(size_of::<u64>())];
    let size = zstd::bulk::decompress_to_buffer(PACKED_OBJECT, words.as_mut_bytes())
        .context("the eBPF object in tracer is damaged")?;
    ensure!(size == OBJECT_SIZE, "the eBPF object in tracer is damaged");
    Ok(words)
}

/// What serves one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) purpose: Purpose,
    /// `None`: nothing does.
    pub(crate) by: Option<By>,
    /// Why not by something better.
    pub(crate) reason: Option<String>,
}

/// The programs that serve a purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) tier: Tier,
    pub(crate) targets: Vec<String>,
    pub(crate) exactness: Exactness,
    pub(crate) note: Option<&'static str>,
}

/// Programs in the kernel; dropping it detaches them all.
pub(crate) struct Probe {
    bpf: Ebpf,
    pub(crate) served: Vec<Served>,
    groups: Vec<Standing>,
    /// `None`: nothing has been attached yet.
    place: Option<Place>,
}

/// A group of purposes, and how far down its candidates it is.
struct Standing {
    group: Group,
    /// The candidate that serves it.
    winner: Option<usize>,
    /// The candidate to try next.
    next: usize,
    /// Why nothing better serves it.
    refusals: Vec<String>,
}

impl Standing {
    fn by(&self) -> Option<&Candidate> {
        self.group.candidates.get(self.winner?)
    }

    fn programs(&self) -> impl Iterator<Item = &'static str> {
        let attachments = self.by().map_or(&[][..], |by| &by.attachments);
        attachments.iter().map(|attachment| attachment.program)
    }

    fn served(&self) -> impl Iterator<Item = Served> {
        let by = self.by().map(By::from);
        let reason = (!self.refusals.is_empty()).then(|| self.refusals.join("; "));
        self.group.purposes.iter().map(move |purpose| Served {
            purpose: *purpose,
            by: by.clone(),
            reason: reason.clone(),
        })
    }
}

impl Probe {
    /// Creates the maps and prepares the programs; nothing is attached yet. What
    /// `filter` leaves out is counted and not described.
    ///
    /// # Errors
    /// The kernel refuses the maps, or BPF altogether.
    pub(crate) fn load(config: &Config, filter: &Filter, verbose: bool) -> Result<Self> {
        raise_memlock_limit();
        let log_level: u8 = if verbose { u8::MAX } else { 0 };
        let bpf = EbpfLoader::new()
            // Not the log of every instruction, but the verifier's own sentence on
            // what it refuses; without any level old kernels hide their error.
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global("CONFIG", config.as_bytes(), true)
            .override_global("FILTER", filter.as_bytes(), true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .load(&object()?.as_bytes()[..OBJECT_SIZE])
            .context("the kernel refuses tracer's maps")?;
        Ok(Self {
            bpf,
            served: Vec::new(),
            groups: Vec::new(),
            place: None,
        })
    }

    /// Attaches what the plan names, group by group, best candidate first.
    ///
    /// # Errors
    /// The cgroup2 root cannot be opened. A refused program is no error: see [`Probe::served`].
    pub(crate) fn attach(&mut self, plan: &Plan, facts: &Facts) -> Result<()> {
        let place = Place {
            btf: functions::as_btf(&facts.functions),
            cgroup: facts.cgroup2.as_deref().map(open_cgroup).transpose()?,
        };
        for group in &plan.groups {
            let mut standing = Standing {
                group: group.clone(),
                winner: None,
                next: 0,
                refusals: group.ruled_out.clone(),
            };
            self.try_rest(&mut standing, &place);
            self.groups.push(standing);
        }
        self.place = Some(place);
        self.note_served();
        Ok(())
    }

    /// Tries the candidates that are left, until one attaches.
    fn try_rest(&mut self, standing: &mut Standing, place: &Place) {
        while let Some(candidate) = standing.group.candidates.get(standing.next) {
            let result = self.try_candidate(candidate, place);
            standing.next += 1;
            match result {
                Ok(()) => {
                    standing.winner = Some(standing.next - 1);
                    return;
                }
                Err(why) => {
                    let why = format!("{}: {why:#}", candidate.tier.name());
                    standing.refusals.push(why);
                }
            }
        }
    }

    fn note_served(&mut self) {
        self.served = self.groups.iter().flat_map(Standing::served).collect();
    }

    fn standing(&self, purpose: Purpose) -> Option<&Standing> {
        let mut groups = self.groups.iter();
        groups.find(|standing| standing.group.purposes.contains(&purpose))
    }

    /// The tier that serves `purpose`.
    pub(crate) fn tier(&self, purpose: Purpose) -> Option<Tier> {
        Some(self.standing(purpose)?.by()?.tier)
    }

    /// Whether there is another way to serve `purpose` that has not been tried.
    pub(crate) fn has_alternative(&self, purpose: Purpose) -> bool {
        self.standing(purpose)
            .is_some_and(|standing| standing.next < standing.group.candidates.len())
    }

    /// Takes the programs that serve `purpose` out of the kernel because of `why`, and
    /// attaches the next candidate that attaches, if there is one. Purposes whose
    /// programs are among them fall back, too: both ways at once would report a failure
    /// twice. Returns all the purposes concerned.
    pub(crate) fn fall_back(&mut self, purpose: Purpose, why: &str) -> Vec<Purpose> {
        let mut groups = std::mem::take(&mut self.groups);
        let Some(place) = self.place.take() else {
            self.groups = groups;
            return Vec::new();
        };
        let broken: Vec<&str> = groups
            .iter()
            .filter(|standing| standing.group.purposes.contains(&purpose))
            .flat_map(Standing::programs)
            .collect();
        // Tracepoints and kprobes need what is not mounted in some containers.
        let _view = PrivateView::with_missing_mounts(&mountinfo::read());
        let mut concerned = Vec::new();
        let mut useless = Vec::new();
        for standing in &mut groups {
            let has = standing.programs().any(|program| broken.contains(&program));
            if let Some(by) = standing.by().filter(|_| has) {
                let why = format!("{}: {why}", by.tier.name());
                useless.extend(standing.programs());
                standing.refusals.push(why);
                standing.winner = None;
                concerned.extend(&standing.group.purposes);
            }
        }
        for program in useless {
            self.unload(program);
        }
        for standing in &mut groups {
            if standing
                .group
                .purposes
                .iter()
                .any(|it| concerned.contains(it))
            {
                self.try_rest(standing, &place);
            }
        }
        self.groups = groups;
        self.place = Some(place);
        self.note_served();
        concerned
    }

    /// Detaches the programs of a purpose and says nothing, as a hook that sees nothing
    /// would: for tests.
    #[cfg(feature = "fault")]
    pub(crate) fn break_hook(&mut self, purpose: Purpose) {
        let groups = self.groups.iter();
        let programs: Vec<&str> = groups
            .filter(|standing| standing.group.purposes.contains(&purpose))
            .flat_map(Standing::programs)
            .collect();
        for program in programs {
            self.unload(program);
        }
    }

    /// Whether anything that reports a failure is attached.
    pub(crate) fn sees_anything(&self) -> bool {
        let observers = [
            Purpose::Listener,
            Purpose::Acceptor,
            Purpose::AcceptFailure,
            Purpose::Closer,
        ];
        self.served
            .iter()
            .any(|served| served.by.is_some() && !observers.contains(&served.purpose))
    }

    /// What hooks missed because the kernel did not run them.
    pub(crate) fn missed(&self) -> Vec<Missed> {
        let all = self.groups.iter().flat_map(|standing| {
            let programs = standing.programs();
            let runs = programs
                .map(|program| missed::runs(&self.bpf, program))
                .sum();
            let purposes = standing.group.purposes.iter();
            purposes.map(move |purpose| Missed {
                purpose: *purpose,
                runs,
            })
        });
        all.filter(|missed| missed.runs > 0).collect()
    }

    /// Whether anything serves `purpose`.
    pub(crate) fn serves(&self, purpose: Purpose) -> bool {
        self.served
            .iter()
            .any(|served| served.purpose == purpose && served.by.is_some())
    }

    /// The loaded object, for its log and for maps that stay with it.
    pub(crate) fn bpf_mut(&mut self) -> &mut Ebpf {
        &mut self.bpf
    }

    /// Whether the kernel lets this process read maps as it is now.
    pub(crate) fn can_read(&self) -> bool {
        let map = self.bpf.map("HEALTH");
        let health = map.and_then(|map| PerCpuArray::<_, u64>::try_from(map).ok());
        health.is_some_and(|health| health.get(&0, 0).is_ok())
    }

    /// Hands out a map by name.
    ///
    /// # Errors
    /// The object has no such map: it is not the one this binary was built for.
    pub(crate) fn take_map<M>(&mut self, name: &str) -> Result<M>
    where
        M: TryFrom<Map, Error = aya::maps::MapError>,
    {
        let map = self
            .bpf
            .take_map(name)
            .with_context(|| format!("no map {name}"))?;
        M::try_from(map).with_context(|| format!("map {name} has another type"))
    }

    /// All programs of a candidate or none.
    fn try_candidate(&mut self, candidate: &Candidate, place: &Place) -> Result<()> {
        let mut fresh: Vec<&'static str> = Vec::new();
        for attachment in &candidate.attachments {
            if self.is_attached(attachment.program) {
                continue;
            }
            fresh.push(attachment.program);
            if let Err(why) = self.try_program(attachment, place) {
                for program in fresh {
                    self.unload(program);
                }
                return Err(why).context(attachment.target.to_string());
            }
        }
        Ok(())
    }

    fn is_attached(&self, program: &str) -> bool {
        self.bpf
            .program(program)
            .is_some_and(|program| program.fd().is_ok())
    }

    fn try_program(&mut self, attachment: &Attachment, place: &Place) -> Result<()> {
        let Some(program) = self.bpf.program_mut(attachment.program) else {
            bail!("the object has no program {}", attachment.program);
        };
        attach::load_and_attach(program, attachment.target, place)
    }

    fn unload(&mut self, program: &str) {
        if let Some(program) = self.bpf.program_mut(program) {
            attach::unload(program);
        }
    }
}

impl From<&Candidate> for By {
    fn from(candidate: &Candidate) -> Self {
        Self {
            tier: candidate.tier,
            targets: candidate
                .attachments
                .iter()
                .map(|a| a.target.to_string())
                .collect(),
            exactness: candidate.exactness,
            note: candidate.note,
        }
    }
}

/// What programs attach to, beyond names.
struct Place {
    btf: Btf,
    cgroup: Option<File>,
}

fn open_cgroup(root: &Path) -> Result<File> {
    File::open(root).with_context(|| format!("cannot open {}", root.display()))
}

/// Before 5.11 maps count against `RLIMIT_MEMLOCK`, whose usual 64 KiB is less
/// than the ring buffer. Failing to raise it shows when the maps are created.
fn raise_memlock_limit() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
}

/// A map of the kernel side, owned by user space.
pub(crate) type Owned = MapData;
