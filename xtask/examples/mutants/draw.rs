//! Damage, drawn from a seed.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    fixture::{Fixture, gzip, hex, tar},
    words::{FIELDS, NAMES, VALUES},
};

pub enum Case {
    Tarball(Vec<u8>),
    Sidecar(Vec<u8>),
    Signature {
        sidecar: Vec<u8>,
        signature: Vec<u8>,
    },
    Manifest(Vec<u8>),
}

impl Case {
    pub fn kind(&self) -> u8 {
        match self {
            Self::Tarball(_) => 1,
            Self::Sidecar(_) => 2,
            Self::Signature { .. } => 3,
            Self::Manifest(_) => 4,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Tarball(bytes) | Self::Sidecar(bytes) | Self::Manifest(bytes) => bytes.clone(),
            Self::Signature { sidecar, signature } => {
                let length = u32::try_from(sidecar.len()).unwrap().to_be_bytes();
                [&length, sidecar.as_slice(), signature].concat()
            }
        }
    }
}

pub struct Draw<'a> {
    state: u64,
    fixture: &'a Fixture,
}

impl<'a> Draw<'a> {
    pub fn new(seed: u64, fixture: &'a Fixture) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            fixture,
        }
    }

    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit.max(1)
    }

    fn one<'b>(&mut self, list: &[&'b str]) -> &'b str {
        list[self.below(list.len())]
    }

    pub fn case(&mut self) -> Case {
        match self.below(20) {
            0..8 => Case::Tarball(self.tarball()),
            8..11 => Case::Sidecar(self.sidecar()),
            11..15 => self.signature(),
            _ => Case::Manifest(self.manifest()),
        }
    }

    /// Changes a few bytes anywhere.
    fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let byte = self.below(256) as u8;
            match self.below(8) {
                _ if bytes.is_empty() => bytes.push(byte),
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = byte,
                3 => bytes.insert(at, byte),
                4 => drop(bytes.remove(at)),
                5 => bytes.truncate(at),
                6 => bytes.push(if self.below(2) == 0 { 0 } else { byte }),
                _ => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
    }

    fn tarball(&mut self) -> Vec<u8> {
        match self.below(10) {
            0 => {
                let mut bytes = gzip(&self.good_tar());
                self.bytes(&mut bytes);
                bytes
            }
            1 => {
                let mut bytes = gzip(&self.good_tar());
                let at = self.below(10);
                bytes[at] = self.below(256) as u8;
                bytes
            }
            2..4 => gzip(&tar(&self.manifest(), &self.fixture.files)),
            4 => gzip(&self.consistent()),
            _ => gzip(&self.tar()),
        }
    }

    fn good_tar(&self) -> Vec<u8> {
        tar(self.fixture.manifest.as_bytes(), &self.fixture.files)
    }

    /// Other contents, with the manifest that says so, and sometimes with a file more or less.
    fn consistent(&mut self) -> Vec<u8> {
        let mut files = self.fixture.files.clone();
        let mut manifest = self.fixture.manifest.clone();
        for (_, bytes) in &mut files {
            let before = (hex(bytes), bytes.len());
            if self.below(2) == 0 {
                self.bytes(bytes);
                manifest = manifest.replace(&before.0, &hex(bytes)).replace(
                    &format!("\"size\": {},", before.1),
                    &format!("\"size\": {},", bytes.len()),
                );
            }
        }
        match self.below(4) {
            0 => drop(files.remove(self.below(3))),
            1 => files.push((self.one(NAMES).trim_start_matches('/').to_owned(), vec![1])),
            _ => (),
        }
        files.retain(|(name, _)| !name.is_empty() && !name.contains(".."));
        tar(manifest.as_bytes(), &files)
    }

    fn tar(&mut self) -> Vec<u8> {
        let mut tar = self.good_tar();
        for _ in 0..=self.below(2) {
            let blocks = tar.len() / 512;
            if blocks == 0 {
                break;
            }
            let at = self.below(blocks) * 512;
            match self.below(10) {
                0 => {
                    let block = tar[at..at + 512].to_vec();
                    let to = self.below(blocks + 1) * 512;
                    tar.splice(to..to, block);
                }
                1 => drop(tar.drain(at..at + 512)),
                2 => tar.truncate(at + self.below(512)),
                3 => {
                    let zeros = self.below(24) * 512 + self.below(2);
                    tar.extend(vec![u8::from(self.below(8) == 0); zeros]);
                }
                4 => self.bytes(&mut tar),
                _ => self.header(&mut tar),
            }
        }
        tar
    }

    /// Changes a field of a header, and mostly makes its checksum fit again.
    fn header(&mut self, tar: &mut [u8]) {
        let headers: Vec<_> = (0..tar.len() / 512)
            .map(|block| block * 512)
            .filter(|at| &tar[at + 257..at + 262] == b"ustar")
            .collect();
        let Some(at) = headers.get(self.below(headers.len())).copied() else {
            return;
        };
        let block = &mut tar[at..at + 512];
        match self.below(8) {
            0 => set(&mut block[..100], self.one(NAMES).as_bytes()),
            1 => set(&mut block[345..500], self.one(NAMES).as_bytes()),
            2 => block[156] = b"\x000123456789LKxgSVD "[self.below(19)],
            3 => {
                let sizes = [
                    "0",
                    "1",
                    "3",
                    "13",
                    "600",
                    "77777777777",
                    " 3 ",
                    "3 0",
                    "-1",
                    "9",
                    "+3",
                    "0x3",
                ];
                set(&mut block[124..136], self.one(&sizes).as_bytes());
            }
            4 => block[124] = 0x80,
            5 => {
                let field = [
                    100..108,
                    108..116,
                    116..124,
                    136..148,
                    257..265,
                    265..297,
                    329..345,
                ][self.below(7)]
                .clone();
                let byte = field.start + self.below(field.len());
                block[byte] = self.below(256) as u8;
            }
            6 => set(&mut block[257..265], b"ustar  \0"),
            _ => block[self.below(512)] ^= 1 << self.below(8),
        }
        if self.below(8) > 0 {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            let forms = [
                format!("{sum:06o}\0 "),
                format!("{sum:07o}\0"),
                format!("{sum:o}"),
            ];
            set(&mut block[148..156], forms[self.below(3)].as_bytes());
        }
    }

    fn manifest(&mut self) -> Vec<u8> {
        let mut text = self.fixture.manifest.clone().into_bytes();
        for _ in 0..=self.below(2) {
            match self.below(6) {
                0 => self.bytes(&mut text),
                1 | 2 => self.value(&mut text),
                3 => self.line(&mut text),
                4 => self.nest(&mut text),
                _ => {
                    let member = format!("\"{}\": {},", self.one(FIELDS), self.one(VALUES));
                    let braces: Vec<_> = places(&text, b'{');
                    if let Some(brace) = braces.get(self.below(braces.len())) {
                        text.splice(brace + 1..brace + 1, member.into_bytes());
                    }
                }
            }
        }
        text
    }

    /// Puts another value behind a colon.
    fn value(&mut self, text: &mut Vec<u8>) {
        let colons = places(text, b':');
        let Some(colon) = colons.get(self.below(colons.len())).copied() else {
            return;
        };
        let rest = &text[colon + 1..];
        let length = rest.iter().position(|byte| b",\n}".contains(byte));
        let end = colon + 1 + length.unwrap_or(rest.len());
        text.splice(colon + 1..end, self.one(VALUES).bytes());
    }

    /// Repeats a line, leaves one out, or has two change places.
    fn line(&mut self, text: &mut Vec<u8>) {
        let mut lines: Vec<_> = text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let (one, other) = (self.below(lines.len()), self.below(lines.len()));
        match self.below(3) {
            0 => lines.insert(other, lines[one].clone()),
            1 => drop(lines.remove(one)),
            _ => lines.swap(one, other),
        }
        *text = lines.join(&b'\n');
    }

    /// Nests a value that nobody asks for, about as deep as readers go.
    fn nest(&mut self, text: &mut Vec<u8>) {
        let depth = 120 + self.below(12);
        let (open, close) = if self.below(2) == 0 {
            ("[", "]")
        } else {
            ("{\"a\":", "}")
        };
        let value = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        let member = format!("\"extra\": {value},");
        if text.first() == Some(&b'{') {
            text.splice(1..1, member.into_bytes());
        }
    }

    fn sidecar(&mut self) -> Vec<u8> {
        let mut text = self.fixture.sidecar.clone();
        match self.below(12) {
            0 => text = text.replace("  ", " *"),
            1 => text = text.replace('\n', "\r\n"),
            2 => text.push('\n'),
            3 => text = text.to_uppercase(),
            4 => text = text.replace("-cpu-", "-cuda12-"),
            5 => text = text.repeat(2),
            6 => text = text.replace("  ", "  ./"),
            7 => text = format!(" {text}"),
            8 => (),
            _ => {
                let mut bytes = text.into_bytes();
                self.bytes(&mut bytes);
                return bytes;
            }
        }
        text.into_bytes()
    }

    fn signature(&mut self) -> Case {
        let mut sidecar = self.fixture.sidecar.clone().into_bytes();
        let at = [0, 0, 0, 0, 1, 2][self.below(6)];
        let text = self.fixture.signatures[at].clone();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let signature = match self.below(10) {
            0 => {
                self.bytes(&mut sidecar);
                text.into_bytes()
            }
            1 => {
                let other = self.fixture.signatures[self.below(3)]
                    .lines()
                    .nth(self.below(4));
                let line = self.below(4);
                lines[line] = other.unwrap_or_default().to_owned();
                lines.join("\n").into_bytes()
            }
            2 => text
                .replace('\n', ["\r\n", "\n\n", " \n", "\r"][self.below(4)])
                .into_bytes(),
            3 => self.encoded(&mut lines),
            4 => self.comment(&mut lines),
            5 => format!("{text}{}", self.one(&["\n", " ", "\0", "more\n", &text])).into_bytes(),
            6 => text.into_bytes(),
            _ => {
                let mut bytes = text.into_bytes();
                self.bytes(&mut bytes);
                bytes
            }
        };
        Case::Signature { sidecar, signature }
    }

    /// Changes what is signed with, under an encoding that is in order, or the encoding alone.
    fn encoded(&mut self, lines: &mut [String]) -> Vec<u8> {
        let at = [1, 3][self.below(2)];
        let mut bytes = STANDARD.decode(&lines[at]).unwrap();
        match self.below(5) {
            0 => bytes[1] = b"dDe\0"[self.below(4)],
            // The same number to whoever does not look whether it is the least.
            1 => add_order(bytes.last_chunk_mut().unwrap()),
            2 => self.bytes(&mut bytes),
            _ => (),
        }
        let mut text = STANDARD.encode(bytes);
        match self.below(4) {
            0 => text = text.trim_end_matches('=').to_owned(),
            1 => {
                // A letter that says the same, or nearly.
                if let Some(letter) = text.trim_end_matches('=').len().checked_sub(1) {
                    let next = char::from(text.as_bytes()[letter] + 1).to_string();
                    text.replace_range(letter..=letter, &next);
                }
            }
            _ => (),
        }
        lines[at] = text;
        format!("{}\n", lines.join("\n")).into_bytes()
    }

    fn comment(&mut self, lines: &mut [String]) -> Vec<u8> {
        lines[[0, 2][self.below(2)]] = match self.below(5) {
            0 => "untrusted comment:".to_owned(),
            1 => "untrusted comment: é".to_owned(),
            2 => "trusted comment:".to_owned(),
            3 => format!("trusted comment: file:{}", self.fixture.asset),
            _ => String::new(),
        };
        format!("{}\n", lines.join("\n")).into_bytes()
    }
}

fn places(text: &[u8], wanted: u8) -> Vec<usize> {
    (0..text.len()).filter(|at| text[*at] == wanted).collect()
}

/// Puts a text into a field, and zeros behind it.
fn set(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Adds the order of Ed25519's group, 2^252 + 27742317777372353535851937790883648493.
fn add_order(number: &mut [u8; 32]) {
    let order: [u8; 16] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14,
    ];
    let mut carry = 0;
    for (at, byte) in number.iter_mut().enumerate() {
        let term = match at {
            0..16 => u16::from(order[at]),
            31 => 0x10,
            _ => 0,
        };
        let sum = u16::from(*byte) + term + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}
