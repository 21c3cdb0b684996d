//! Shared libraries that say what a test wants and hold no code.

use object::{
    Endianness, elf, macho,
    write::elf::{FileHeader, SectionHeader, Sym, Vernaux, Verneed, Writer},
};

/// An ELF library.
#[derive(Debug, Clone)]
pub struct Elf {
    pub machine: u16,
    pub own_name: &'static str,
    pub needed: Vec<&'static str>,
    /// A tag, `DT_RPATH` or `DT_RUNPATH`, and its value.
    pub run_path: Option<(u32, &'static str)>,
    /// Symbol versions needed of libc.so.6 and libstdc++.so.6.
    pub symbol_versions: Vec<&'static str>,
    pub exports: Vec<&'static str>,
}

impl Elf {
    /// libemily as a release has it.
    pub fn libemily() -> Self {
        Self {
            machine: elf::EM_X86_64,
            own_name: "libemily.so",
            needed: vec!["libmlx.so", "libstdc++.so.6", "libc.so.6"],
            run_path: Some((elf::DT_RUNPATH, "$ORIGIN")),
            symbol_versions: vec!["GLIBC_2.2.5", "GLIBC_2.34", "GLIBCXX_3.4.30"],
            exports: vec!["nif_init"],
        }
    }

    /// libmlx as a release has it.
    pub fn libmlx() -> Self {
        Self {
            own_name: "libmlx.so",
            needed: vec!["libm.so.6", "libc.so.6"],
            run_path: Some((elf::DT_RPATH, "$ORIGIN")),
            symbol_versions: vec!["GLIBC_2.35", "GLIBCXX_3.4.9"],
            exports: vec!["mlx_version"],
            ..Self::libemily()
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(Endianness::Little, true, &mut out);
        let mut dynamics: Vec<(u32, _)> = Vec::new();
        for needed in &self.needed {
            dynamics.push((elf::DT_NEEDED, writer.add_dynamic_string(needed.as_bytes())));
        }
        if let Some((tag, path)) = self.run_path {
            dynamics.push((tag, writer.add_dynamic_string(path.as_bytes())));
        }
        dynamics.push((
            elf::DT_SONAME,
            writer.add_dynamic_string(self.own_name.as_bytes()),
        ));
        let exports: Vec<_> = self
            .exports
            .iter()
            .map(|name| writer.add_dynamic_string(name.as_bytes()))
            .collect();
        let versions: Vec<_> = self
            .symbol_versions
            .iter()
            .map(|name| writer.add_dynamic_string(name.as_bytes()))
            .collect();
        let file = writer.add_dynamic_string(b"libc.so.6");
        let text_name = writer.add_section_name(b".text");

        writer.reserve_null_section_index();
        let text = writer.reserve_section_index();
        writer.reserve_dynsym_section_index();
        writer.reserve_dynstr_section_index();
        writer.reserve_gnu_versym_section_index();
        writer.reserve_gnu_verneed_section_index();
        writer.reserve_dynamic_section_index();
        writer.reserve_shstrtab_section_index();
        writer.reserve_null_dynamic_symbol_index();
        for _ in &exports {
            writer.reserve_dynamic_symbol_index();
        }

        writer.reserve_file_header();
        let dynsym = writer.reserve_dynsym();
        let dynstr = writer.reserve_dynstr();
        let versym = writer.reserve_gnu_versym();
        let verneed = writer.reserve_gnu_verneed(1, versions.len());
        let dynamic = writer.reserve_dynamic(dynamics.len() + 1);
        writer.reserve_shstrtab();
        writer.reserve_section_headers();

        writer
            .write_file_header(&FileHeader {
                os_abi: 0,
                abi_version: 0,
                e_type: elf::ET_DYN,
                e_machine: self.machine,
                e_entry: 0,
                e_flags: 0,
            })
            .unwrap();
        writer.write_null_dynamic_symbol();
        for name in exports {
            writer.write_dynamic_symbol(&Sym {
                name: Some(name),
                section: Some(text),
                st_info: (elf::STB_GLOBAL << 4) | elf::STT_FUNC,
                st_other: 0,
                st_shndx: 0,
                st_value: 0x1000,
                st_size: 1,
            });
        }
        writer.write_dynstr();
        writer.write_null_gnu_versym();
        for _ in &self.exports {
            writer.write_gnu_versym(elf::VER_NDX_GLOBAL);
        }
        writer.write_align_gnu_verneed();
        writer.write_gnu_verneed(&Verneed {
            version: 1,
            aux_count: u16::try_from(versions.len()).unwrap(),
            file,
        });
        for (index, name) in (2..).zip(versions) {
            writer.write_gnu_vernaux(&Vernaux {
                flags: 0,
                index,
                name,
            });
        }
        writer.write_align_dynamic();
        for (tag, string) in dynamics {
            writer.write_dynamic_string(tag, string);
        }
        writer.write_dynamic(elf::DT_NULL, 0);
        writer.write_shstrtab();
        writer.write_null_section_header();
        writer.write_section_header(&SectionHeader {
            name: Some(text_name),
            sh_type: elf::SHT_NOBITS,
            sh_flags: u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR),
            sh_addr: 0x1000,
            sh_offset: 0,
            sh_size: 1,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
        writer.write_dynsym_section_header(dynsym as u64, 1);
        writer.write_dynstr_section_header(dynstr as u64);
        writer.write_gnu_versym_section_header(versym as u64);
        writer.write_gnu_verneed_section_header(verneed as u64);
        writer.write_dynamic_section_header(dynamic as u64);
        writer.write_shstrtab_section_header();
        out
    }
}

/// A Mach-O library.
#[derive(Debug, Clone)]
pub struct MachO {
    pub cpu: u32,
    pub own_name: &'static str,
    pub needed: Vec<&'static str>,
    pub run_paths: Vec<&'static str>,
    pub platform: u32,
    pub minimum: Option<(u8, u8)>,
    pub signed: bool,
    pub exports: Vec<&'static str>,
    /// Symbols, and for each the place in `needed` of the library that has it, from 1.
    pub imports: Vec<(&'static str, u8)>,
}

impl MachO {
    /// libemily as a release has it.
    pub fn libemily() -> Self {
        Self {
            cpu: macho::CPU_TYPE_ARM64,
            own_name: "@rpath/libemily.dylib",
            needed: vec!["@rpath/libmlx.dylib", "/usr/lib/libSystem.B.dylib"],
            imports: vec![
                ("_mlx_version", 1),
                ("_free", 2),
                ("_enif_send", macho::DYNAMIC_LOOKUP_ORDINAL),
            ],
            run_paths: vec!["@loader_path"],
            platform: macho::PLATFORM_MACOS,
            minimum: Some((14, 0)),
            signed: true,
            exports: vec!["_nif_init"],
        }
    }

    /// libmlx as a release has it.
    pub fn libmlx() -> Self {
        Self {
            own_name: "@rpath/libmlx.dylib",
            needed: vec!["/System/Library/Frameworks/Metal.framework/Versions/A/Metal"],
            run_paths: vec![],
            minimum: Some((13, 3)),
            imports: vec![("_MTLCopyAllDevices", 1)],
            exports: vec!["_mlx_version"],
            ..Self::libemily()
        }
    }

    /// The file: a header, its load commands, and the symbol table that they point to.
    pub fn bytes(&self) -> Vec<u8> {
        const HEADER: usize = 32;
        let mut commands = vec![dylib(macho::LC_ID_DYLIB, self.own_name)];
        commands.extend(
            self.needed
                .iter()
                .map(|name| dylib(macho::LC_LOAD_DYLIB, name)),
        );
        for path in &self.run_paths {
            commands.push(command(macho::LC_RPATH, &[12], path));
        }
        if let Some((major, minor)) = self.minimum {
            let minimum = u32::from(major) << 16 | u32::from(minor) << 8;
            let numbers = [self.platform, minimum, minimum, 0];
            commands.push(command(macho::LC_BUILD_VERSION, &numbers, ""));
        }
        if self.signed {
            commands.push(command(macho::LC_CODE_SIGNATURE, &[0, 0], ""));
        }
        // Which of the symbols are local, defined and undefined: no one, these, and those after them.
        let mut kinds = [0; 18];
        kinds[3] = u32::try_from(self.exports.len()).unwrap();
        kinds[4] = kinds[3];
        kinds[5] = u32::try_from(self.imports.len()).unwrap();
        commands.push(command(macho::LC_DYSYMTAB, &kinds, ""));
        let symbols_at = HEADER + commands.iter().map(Vec::len).sum::<usize>() + 24;
        let mut symbols = Vec::new();
        let mut strings = vec![0];
        let defined = |name| (name, [macho::N_SECT | macho::N_EXT, 1, 0, 0], 0x1000_u64);
        let undefined = |(name, library)| (name, [macho::N_UNDF | macho::N_EXT, 0, 0, library], 0);
        let exports = self.exports.iter().copied().map(defined);
        for (name, kind, value) in exports.chain(self.imports.iter().copied().map(undefined)) {
            symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            symbols.extend(kind);
            symbols.extend(value.to_le_bytes());
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        let table = [
            symbols_at,
            self.exports.len() + self.imports.len(),
            symbols_at + symbols.len(),
            strings.len(),
        ]
        .map(|number| u32::try_from(number).unwrap());
        commands.push(command(macho::LC_SYMTAB, &table, ""));

        let sizes = commands.iter().map(Vec::len).sum::<usize>();
        let header = [
            macho::MH_MAGIC_64,
            self.cpu,
            0,
            macho::MH_DYLIB,
            u32::try_from(commands.len()).unwrap(),
            u32::try_from(sizes).unwrap(),
            macho::MH_TWOLEVEL,
            0,
        ];
        let mut out: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
        out.extend(commands.concat());
        out.extend(symbols);
        out.extend(strings);
        out
    }
}

/// A load command: its numbers after the size, then a string, padded.
fn command(kind: u32, numbers: &[u32], text: &str) -> Vec<u8> {
    let mut body: Vec<u8> = numbers.iter().copied().flat_map(u32::to_le_bytes).collect();
    if !text.is_empty() {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let size = u32::try_from(body.len() + 8).unwrap();
    [kind.to_le_bytes().as_slice(), &size.to_le_bytes(), &body].concat()
}

fn dylib(kind: u32, name: &str) -> Vec<u8> {
    command(kind, &[24, 0, 0x1_0000, 0x1_0000], name)
}
