//! What a shared library, ELF or Mach-O, says about itself and asks of its loader.

use anyhow::{Context as _, Result, bail};
use object::{
    Endianness, FileKind,
    elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, FileHeader64},
    macho::{self, MachHeader64},
    read::{
        Object as _,
        elf::{Dyn as _, ElfFile64, FileHeader as _, SectionHeader as _},
        macho::{LoadCommandVariant, MachHeader as _, MachOFile64, Nlist as _},
    },
};

use crate::version::Version;

/// A shared library's own account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binary {
    /// `linux` or `macos`, as `release/targets.json` spells them.
    pub os: &'static str,
    /// `x86_64` or `aarch64`, as `release/targets.json` spells them.
    pub arch: String,
    /// The name others need it by: `DT_SONAME` or `LC_ID_DYLIB`.
    pub own_name: Option<String>,
    /// The libraries it needs: `DT_NEEDED` or `LC_LOAD_DYLIB`.
    pub needed: Vec<String>,
    /// Where the loader looks for them first: `DT_RPATH`, `DT_RUNPATH` or `LC_RPATH`.
    pub run_paths: Vec<String>,
    /// Whether those also hold for what its dependencies need: true of `DT_RPATH` and `LC_RPATH`,
    /// not of `DT_RUNPATH`.
    pub run_paths_inherited: bool,
    /// The symbol versions it needs of other libraries, such as `GLIBC_2.38` (ELF).
    pub symbol_versions: Vec<String>,
    /// The oldest macOS it was built for (Mach-O).
    pub macos: Option<Version>,
    /// Whether it carries a code signature (Mach-O).
    pub signed: bool,
    /// The symbols it exports, without the underscore that Mach-O puts first.
    pub exports: Vec<String>,
    /// The symbols it takes from other libraries, each by name (Mach-O).
    pub imports: Vec<Import>,
}

/// A symbol that a Mach-O library takes from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Without the underscore that Mach-O puts first.
    pub symbol: String,
    /// The library, as `needed` has it; none where the loader is to look in all that is loaded.
    pub library: Option<String>,
}

impl Binary {
    /// Reads a library; `None` if `bytes` are not of an executable format at all.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>> {
        match FileKind::parse(bytes) {
            Ok(FileKind::Elf64) => elf(bytes).context("reading the ELF headers").map(Some),
            Ok(FileKind::MachO64) => macho(bytes).context("reading the Mach-O headers").map(Some),
            Ok(kind @ (FileKind::Elf32 | FileKind::MachO32 | FileKind::MachOFat32)) => {
                bail!("expected a 64-bit library for one processor, got: {kind:?}")
            }
            _ => Ok(None),
        }
    }
}

fn elf(bytes: &[u8]) -> Result<Binary> {
    type Header = FileHeader64<Endianness>;
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mut binary = Binary {
        os: "linux",
        arch: match header.e_machine(endian) {
            object::elf::EM_X86_64 => "x86_64".to_owned(),
            object::elf::EM_AARCH64 => "aarch64".to_owned(),
            machine => format!("machine {machine}"),
        },
        ..Binary::default()
    };
    for section in sections.iter() {
        if let Some((entries, strings)) = section.dynamic(endian, bytes)? {
            let strings = sections.strings(endian, bytes, strings)?;
            for entry in entries {
                let (tag, value) = (entry.tag32(endian), entry.val32(endian));
                let text = |value: Option<u32>| -> Result<String> {
                    let value = value.context("a string's offset is out of range")?;
                    let Ok(name) = strings.get(value) else {
                        bail!("a string's offset is wrong")
                    };
                    Ok(String::from_utf8_lossy(name).into_owned())
                };
                match tag {
                    Some(DT_NEEDED) => binary.needed.push(text(value)?),
                    Some(DT_SONAME) => binary.own_name = Some(text(value)?),
                    Some(tag @ (DT_RPATH | DT_RUNPATH)) => {
                        binary.run_paths_inherited = tag == DT_RPATH;
                        let paths = text(value)?;
                        binary.run_paths.extend(paths.split(':').map(str::to_owned));
                    }
                    _ => (),
                }
            }
        }
        if let Some((mut needs, strings)) = section.gnu_verneed(endian, bytes)? {
            let strings = sections.strings(endian, bytes, strings)?;
            while let Some((_, mut versions)) = needs.next()? {
                while let Some(version) = versions.next()? {
                    let name = version.name(endian, strings)?;
                    binary
                        .symbol_versions
                        .push(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
    }
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    binary.exports = exports(file.exports()?, "");
    Ok(binary)
}

fn macho(bytes: &[u8]) -> Result<Binary> {
    type Header = MachHeader64<Endianness>;
    let header = Header::parse(bytes, 0)?;
    let endian = header.endian()?;
    let mut binary = Binary {
        os: "macos",
        arch: match header.cputype(endian) {
            macho::CPU_TYPE_ARM64 => "aarch64".to_owned(),
            macho::CPU_TYPE_X86_64 => "x86_64".to_owned(),
            cpu => format!("cpu {cpu:#x}"),
        },
        ..Binary::default()
    };
    let mut commands = header.load_commands(endian, bytes, 0)?;
    while let Some(command) = commands.next()? {
        let text = |string| -> Result<String> {
            Ok(String::from_utf8_lossy(command.string(endian, string)?).into_owned())
        };
        match command.variant()? {
            LoadCommandVariant::IdDylib(dylib) => {
                binary.own_name = Some(text(dylib.dylib.name)?);
            }
            // Ordinary, weak, re-exported and upward dependencies alike.
            LoadCommandVariant::Dylib(dylib) => binary.needed.push(text(dylib.dylib.name)?),
            LoadCommandVariant::Rpath(path) => {
                binary.run_paths_inherited = true;
                binary.run_paths.push(text(path.path)?);
            }
            LoadCommandVariant::BuildVersion(build) => {
                if build.platform.get(endian) != macho::PLATFORM_MACOS {
                    bail!(
                        "expected a library for macOS, got: platform {}",
                        build.platform.get(endian)
                    );
                }
                binary.macos = Some(packed(build.minos.get(endian)));
            }
            LoadCommandVariant::VersionMin(minimum)
                if command.cmd() == macho::LC_VERSION_MIN_MACOSX =>
            {
                binary.macos = Some(packed(minimum.version.get(endian)));
            }
            LoadCommandVariant::LinkeditData(_) if command.cmd() == macho::LC_CODE_SIGNATURE => {
                binary.signed = true;
            }
            _ => (),
        }
    }
    let file = MachOFile64::<Endianness>::parse(bytes)?;
    binary.exports = exports(file.exports()?, "_");
    binary.imports = imports(&file, &binary.needed)?;
    Ok(binary)
}

/// The undefined symbols, with the library that each is bound to by its place in `needed`.
fn imports(file: &MachOFile64<'_, Endianness>, needed: &[String]) -> Result<Vec<Import>> {
    let endian = file.endian();
    let table = file.macho_symbol_table();
    let mut imports = Vec::new();
    for symbol in table.iter() {
        let kind = symbol.n_type;
        if kind & macho::N_STAB != 0 || kind & macho::N_TYPE != macho::N_UNDF {
            continue;
        }
        let name = String::from_utf8_lossy(symbol.name(endian, table.strings())?);
        let library = match symbol.library_ordinal(endian) {
            macho::DYNAMIC_LOOKUP_ORDINAL | macho::EXECUTABLE_ORDINAL => None,
            ordinal => {
                let place = usize::from(ordinal).checked_sub(1);
                let library = place.and_then(|place| needed.get(place));
                Some(library.with_context(|| {
                    format!(
                        "{name} is to come from library {ordinal} of {}",
                        needed.len()
                    )
                })?)
            }
        };
        imports.push(Import {
            symbol: name.strip_prefix('_').unwrap_or(&name).to_owned(),
            library: library.cloned(),
        });
    }
    Ok(imports)
}

/// Exported names without the format's own `prefix`.
fn exports(exports: Vec<object::read::Export<'_>>, prefix: &str) -> Vec<String> {
    exports
        .iter()
        .map(|export| {
            let name = String::from_utf8_lossy(export.name());
            name.strip_prefix(prefix).unwrap_or(&name).to_owned()
        })
        .collect()
}

/// A version as Mach-O packs it: 16 bits, 8 bits, 8 bits.
fn packed(version: u32) -> Version {
    let [patch, minor, low, high] = version.to_le_bytes().map(u64::from);
    Version::new(high << 8 | low, minor, patch)
}
