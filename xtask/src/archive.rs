//! The tarball: packing one that is the same every time, and unpacking one that may be hostile.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::{
    audit::is_library,
    manifest::{self, Manifest},
    sidecar::hex,
    tar_reader::{Entries, Entry},
    targets::Selection,
};

/// What may follow the last entry: tar fills its last record with zeros.
const MAX_PADDING: u64 = 20 * 512;
/// What releases begin with: deflate, and no name, comment or other field. Decoders differ in these.
const PLAIN_HEADER: [u8; 4] = [0x1f, 0x8b, 8, 0];

/// Writes the archive of `manifest` and the files it lists, which are in `dir`.
///
/// The bytes depend on the names and contents alone: the manifest first and the rest sorted, one
/// owner, one time, two modes, and a gzip header without a name or time.
pub fn pack(manifest: &Manifest, dir: &Path, out: impl Write) -> Result<()> {
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(out, Compression::best());
    let mut archive = tar::Builder::new(gzip);
    let bytes = manifest.to_bytes()?;
    archive.append(
        &header(manifest::NAME, bytes.len() as u64)?,
        bytes.as_slice(),
    )?;
    for file in &manifest.files {
        let path = dir.join(&file.name);
        let context = || format!("packing {}", path.display());
        let source = File::open(&path).with_context(context)?;
        archive
            .append(&header(&file.name, file.size)?, source.take(file.size))
            .with_context(context)?;
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}

fn header(name: &str, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    header
        .set_path(name)
        .with_context(|| format!("packing {name}"))?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(mode(name));
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// The mode that a file of this name has in the archive and when installed.
pub fn mode(name: &str) -> u32 {
    if is_library(name) { 0o755 } else { 0o644 }
}

/// What an archive turned out to be.
#[derive(Debug, Default)]
pub struct Contents {
    /// The manifest, if there was one to read.
    pub manifest: Option<Manifest>,
    /// Why the archive must not be installed, one sentence each.
    pub refusals: Vec<String>,
    /// Where it is harmless but not as [`pack`] would have written it.
    pub irregularities: Vec<String>,
}

/// The rules for one archive.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The version in the archive's name.
    pub version: &'a str,
    /// The selection in the archive's name.
    pub selection: &'a Selection,
    /// No archive unpacks to more.
    pub max_unpacked_bytes: u64,
}

/// Unpacks `tarball` into the empty folder `into`, as far as `rules` allow.
///
/// Only files that are allowed by name and have the size and hash of their manifest entry are
/// sure to be whole in `into`; use it only if there are no refusals. Fails only where writing does.
pub fn unpack(tarball: &Path, rules: &Rules<'_>, into: &Path) -> Result<Contents> {
    let context = || format!("reading {}", tarball.display());
    let mut file = BufReader::new(File::open(tarball).with_context(context)?);
    let mut unpacking = Unpacking {
        rules,
        into,
        contents: Contents::default(),
        seen: BTreeSet::new(),
        last: None,
        budget: rules.max_unpacked_bytes,
    };
    if !file
        .fill_buf()
        .with_context(context)?
        .starts_with(&PLAIN_HEADER)
    {
        unpacking.refuse("the archive is broken: expected a plain gzip header".to_owned());
        return Ok(unpacking.contents);
    }
    let mut archive = Entries::new(GzDecoder::new(&mut file));
    match unpacking.entries(&mut archive) {
        Ok(()) => {}
        Err(Stop::Broken(error)) => {
            unpacking.refuse(format!("the archive is broken: {error}"));
            return Ok(unpacking.contents);
        }
        Err(Stop::Refused) => return Ok(unpacking.contents),
        Err(Stop::Failed(error)) => return Err(error),
    }
    unpacking.rest(archive.into_inner(), tarball);
    unpacking.missing();
    Ok(unpacking.contents)
}

/// Why unpacking ended before the archive's end.
enum Stop {
    /// The bytes are not an archive's.
    Broken(io::Error),
    /// There is no sense in reading on; the refusals say why.
    Refused,
    /// Writing failed.
    Failed(anyhow::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

struct Unpacking<'a> {
    rules: &'a Rules<'a>,
    into: &'a Path,
    contents: Contents,
    seen: BTreeSet<String>,
    last: Option<String>,
    budget: u64,
}

impl Unpacking<'_> {
    fn refuse(&mut self, refusal: String) {
        self.contents.refusals.push(refusal);
    }

    fn entries<R: Read>(&mut self, archive: &mut Entries<R>) -> Result<(), Stop> {
        while let Some(entry) = archive.advance()? {
            self.entry(&entry, archive)?;
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &Entry, bytes: &mut R) -> Result<(), Stop> {
        let size = entry.size;
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        if size > self.budget {
            self.refuse(format!(
                "{name}: the archive unpacks to more than {} bytes",
                self.rules.max_unpacked_bytes
            ));
            return Err(Stop::Refused);
        }
        self.budget -= size;
        if let Some(refusal) = self.refusal(&name, &entry.header) {
            self.refuse(refusal);
            return Ok(());
        }
        self.regularity(&name, &entry.header);
        if name == manifest::NAME {
            return self.manifest(bytes, size);
        }
        let Some(manifest) = &self.contents.manifest else {
            self.refuse(format!("{name}: expected {} to come first", manifest::NAME));
            return Err(Stop::Refused);
        };
        let Some(expected) = manifest.file(&name).cloned() else {
            self.refuse(format!("{name}: {} does not list it", manifest::NAME));
            return Ok(());
        };
        if size != expected.size {
            self.refuse(format!(
                "{name}: expected {} bytes, got: {size}",
                expected.size
            ));
            return Ok(());
        }
        let sha256 = self.write(&name, bytes)?;
        if sha256 != expected.sha256 {
            self.refuse(format!(
                "{name}: expected sha256 {}, got: {sha256}",
                expected.sha256
            ));
        }
        Ok(())
    }

    /// Why the entry may not be there at all.
    fn refusal(&mut self, name: &str, header: &Header) -> Option<String> {
        match header.entry_type() {
            // The old form of tar has a zero there.
            EntryType::Regular => (),
            kind => return Some(format!("{name}: expected a regular file, got: {kind:?}")),
        }
        if name.contains(['/', '\\', '\0']) || name.contains("..") || name.is_empty() {
            return Some(format!("{name:?}: expected a plain file name"));
        }
        if !self
            .rules
            .selection
            .variant
            .files
            .iter()
            .any(|allowed| allowed == name)
        {
            return Some(format!(
                "{name}: not a file of variant {}",
                self.rules.selection.variant_name
            ));
        }
        if !self.seen.insert(name.to_owned()) {
            return Some(format!("{name}: comes twice"));
        }
        None
    }

    /// Notes where the header is not what [`pack`] writes.
    fn regularity(&mut self, name: &str, header: &Header) {
        let numbers = [
            (
                "mode",
                header.mode().ok().map(u64::from),
                u64::from(mode(name)),
            ),
            ("uid", header.uid().ok(), 0),
            ("gid", header.gid().ok(), 0),
            ("mtime", header.mtime().ok(), 0),
        ];
        for (field, actual, expected) in numbers {
            if actual != Some(expected) {
                let actual = actual.map_or("none".to_owned(), |actual| format!("{actual:#o}"));
                self.contents.irregularities.push(format!(
                    "{name}: expected {field} {expected:#o}, got: {actual}"
                ));
            }
        }
        for (field, owner) in [
            ("user", header.username_bytes()),
            ("group", header.groupname_bytes()),
        ] {
            if owner.is_some_and(|owner| !owner.is_empty()) {
                self.contents
                    .irregularities
                    .push(format!("{name}: expected no {field} name"));
            }
        }
        if self
            .last
            .as_deref()
            .is_some_and(|last| last != manifest::NAME && last > name)
        {
            self.contents
                .irregularities
                .push(format!("{name}: expected entries sorted by name"));
        }
        self.last = Some(name.to_owned());
    }

    fn manifest<R: Read>(&mut self, entry: &mut R, size: u64) -> Result<(), Stop> {
        if size > manifest::MAX_BYTES {
            self.refuse(format!(
                "{}: expected at most {} bytes, got: {size}",
                manifest::NAME,
                manifest::MAX_BYTES
            ));
            return Err(Stop::Refused);
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.refuse(format!("{error:#}"));
                return Err(Stop::Refused);
            }
        };
        self.contents
            .refusals
            .extend(manifest.violations(self.rules.version, self.rules.selection));
        let too_large = manifest.size_violation(self.rules.max_unpacked_bytes);
        self.contents.refusals.extend(too_large);
        self.contents.manifest = Some(manifest);
        self.write(manifest::NAME, &mut bytes.as_slice())?;
        Ok(())
    }

    /// Writes a file and returns its SHA-256.
    fn write<R: Read>(&mut self, name: &str, source: &mut R) -> Result<String, Stop> {
        let path = self.into.join(name);
        let failed = |error: io::Error| {
            Stop::Failed(anyhow::Error::from(error).context(format!("writing {}", path.display())))
        };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode(name))
            .open(&path)
            .map_err(failed)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = source.read(&mut buffer)?;
            if count == 0 {
                return Ok(hex(&hash.finalize()));
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(failed)?;
        }
    }

    /// What follows the entries: padding up to the end of the gzip stream, then nothing. Reading
    /// on is also what checks the checksum of the gzip stream.
    fn rest(&mut self, mut gzip: GzDecoder<&mut BufReader<File>>, tarball: &Path) {
        let mut rest = Vec::new();
        match gzip.by_ref().take(MAX_PADDING + 1).read_to_end(&mut rest) {
            Err(error) => self.refuse(format!("the archive is broken: {error}")),
            Ok(_) if rest.len() as u64 > MAX_PADDING || rest.iter().any(|byte| *byte != 0) => {
                self.refuse("the archive goes on after its end".to_owned());
            }
            Ok(_) => match gzip.into_inner().read(&mut [0]) {
                Ok(0) => (),
                Ok(_) => self.refuse("there are bytes after the gzip stream".to_owned()),
                Err(error) => self.refuse(format!("reading {}: {error}", tarball.display())),
            },
        }
    }

    /// Files that the manifest promises.
    fn missing(&mut self) {
        let Some(manifest) = &self.contents.manifest else {
            self.refuse(format!("{} is missing", manifest::NAME));
            return;
        };
        let promised = manifest.files.iter().map(|file| &file.name);
        let missing: Vec<_> = promised
            .filter(|name| !self.seen.contains(*name))
            .map(|name| format!("{name}: the archive lacks it"))
            .collect();
        self.contents.refusals.extend(missing);
    }
}

/// Where the gzip header of `tarball` is not what [`pack`] writes.
pub fn gzip_irregularities(tarball: &Path) -> Result<Vec<String>> {
    let mut file = BufReader::new(
        File::open(tarball).with_context(|| format!("reading {}", tarball.display()))?,
    );
    let mut gzip = GzDecoder::new(&mut file);
    // The header is read with the first bytes.
    let _ = gzip.read(&mut [0]);
    let Some(header) = gzip.header() else {
        return Ok(vec!["gzip: there is no header".to_owned()]);
    };
    let mut found = Vec::new();
    if header.mtime() != 0 {
        found.push(format!("gzip: expected no time, got: {}", header.mtime()));
    }
    if header.filename().is_some() || header.comment().is_some() || header.extra().is_some() {
        found.push("gzip: expected no name, comment or extra field".to_owned());
    }
    Ok(found)
}
