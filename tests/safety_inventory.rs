//! SAFETY.md says what the sources say: the same files, the same number of blocks, every label defined.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where unsafe code may stand; everywhere else the compiler refuses it. In `bootstrap.rs` it is the
/// attribute in a macro for the user's program.
const ALLOWED: [&str; 5] = [
    "src/sys/",
    "src/region/",
    "src/process/target.rs",
    "src/process/fork.rs",
    "src/process/bootstrap.rs",
];

/// A source file, its comments told apart from its code.
#[derive(Default)]
struct Source {
    /// The code, with strings and character literals emptied.
    code: String,
    /// The comments, each line of them on a line.
    comments: String,
}

/// What the next characters of a source are.
enum Piece {
    Code,
    LineComment,
    BlockComment,
    /// A string literal that ends in a quote and as many hashes; an escaping one if `raw` is false.
    Text {
        hashes: usize,
        raw: bool,
    },
    Character,
}

impl Source {
    fn parse(text: &str) -> Source {
        let mut source = Source::default();
        let mut rest = text;
        while !rest.is_empty() {
            let before = source.code.chars().next_back().unwrap_or(' ');
            let (piece, start) = Piece::at(rest, before);
            let end = piece.end(rest, start);
            match piece {
                Piece::Code => source.code.push_str(&rest[..end]),
                Piece::LineComment | Piece::BlockComment => {
                    source.comments.push_str(&rest[..end]);
                    source.code.push(' ');
                }
                Piece::Text { .. } | Piece::Character => source.code.push_str("\"\""),
            }
            if matches!(piece, Piece::LineComment) {
                source.comments.push('\n');
            }
            rest = &rest[end..];
        }
        source
    }

    /// How often the code opens or declares something unsafe that needs a reason: blocks, `impl`s,
    /// `extern` blocks and attributes. What an `unsafe fn`, an `unsafe trait` or a pointer to such a
    /// function asks, its users answer.
    fn blocks(&self) -> usize {
        self.uses().filter(|next| !next.starts_with("fn") && !next.starts_with("trait")).count()
    }

    fn is_unsafe(&self) -> bool {
        self.uses().next().is_some()
    }

    /// What follows each `unsafe` keyword.
    fn uses(&self) -> impl Iterator<Item = &str> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices("unsafe").filter_map(move |(at, word)| {
            let (before, after) = (&self.code[..at], &self.code[at + word.len()..]);
            let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
            let next = after.trim_start();
            // `unsafe extern "C" fn` is a function, `unsafe extern "C" {` a block.
            let foreign = next
                .strip_prefix("extern")
                .map(|next| next.trim_start().trim_start_matches('"').trim_start());
            whole.then_some(foreign.unwrap_or(next))
        })
    }

    /// The labels that SAFETY comments cite: `SAFETY: (mutex-1) (mutex-2) ...`.
    fn labels(&self) -> BTreeSet<String> {
        let mut labels = BTreeSet::new();
        for comment in self.comments.split("SAFETY:").skip(1) {
            let mut rest = comment.trim_start();
            while let Some((label, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')'))
            {
                if !is_label(label) {
                    break;
                }
                labels.insert(label.to_owned());
                rest = after.trim_start();
            }
        }
        labels
    }
}

impl Piece {
    /// The piece that `rest` begins with, and how long its opening is; `before` is the code before it.
    fn at(rest: &str, before: char) -> (Piece, usize) {
        let word_before = before.is_alphanumeric() || before == '_';
        if rest.starts_with("//") {
            return (Piece::LineComment, 2);
        }
        if rest.starts_with("/*") {
            return (Piece::BlockComment, 2);
        }
        let prefix = if word_before {
            0
        } else {
            rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len()
        };
        if prefix <= 2 {
            let raw = rest[..prefix].ends_with('r');
            let quoted = rest[prefix..].trim_start_matches('#');
            let hashes = rest.len() - prefix - quoted.len();
            if quoted.starts_with('"') && (raw || hashes == 0) {
                return (Piece::Text { hashes, raw }, prefix + hashes + 1);
            }
        }
        if let Some(quoted) = rest.strip_prefix('\'') {
            // A lifetime is a quote and a word that no quote ends.
            let mut next = quoted.chars().skip(1);
            if quoted.starts_with('\\') || next.next() == Some('\'') {
                return (Piece::Character, 1);
            }
        }
        (Piece::Code, rest.chars().next().map_or(0, char::len_utf8))
    }

    /// Where the piece ends that begins `rest` with an opening of `start` bytes.
    fn end(&self, rest: &str, start: usize) -> usize {
        match self {
            Piece::Code => start,
            Piece::LineComment => rest.find('\n').unwrap_or(rest.len()),
            Piece::BlockComment => block_comment_end(rest),
            Piece::Text { hashes, raw: true } => {
                let closing = format!("\"{}", "#".repeat(*hashes));
                rest[start..].find(&closing).map_or(rest.len(), |at| start + at + closing.len())
            }
            Piece::Text { raw: false, .. } => literal_end(rest, start, '"'),
            Piece::Character => literal_end(rest, start, '\''),
        }
    }
}

fn literal_end(rest: &str, start: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return start + at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn block_comment_end(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A word, a hyphen and a number.
fn is_label(text: &str) -> bool {
    let Some((word, number)) = text.rsplit_once('-') else { return false };
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    is_word && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file of the library, by its path from the root.
fn sources() -> BTreeMap<String, Source> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let parse = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        (name, Source::parse(&fs::read_to_string(path).unwrap()))
    };
    files.into_iter().map(parse).collect()
}

/// What SAFETY.md says.
#[derive(Default)]
struct Inventory {
    /// The count in each file's heading.
    headings: BTreeMap<String, usize>,
    /// The lines under each label.
    facts: BTreeMap<String, Vec<String>>,
    /// What is not as it should be.
    faults: Vec<String>,
}

impl Inventory {
    fn parse(text: &str) -> Inventory {
        let mut inventory = Inventory::default();
        let mut label = None;
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                inventory.add_heading(heading);
                label = None;
            } else if let Some((first, _)) = line.split_once("  ").filter(|(l, _)| is_label(l)) {
                if inventory.facts.insert(first.to_owned(), Vec::new()).is_some() {
                    inventory.faults.push(format!("{first} is defined twice"));
                }
                label = Some(first.to_owned());
            } else if let Some(label) = &label {
                inventory.facts.get_mut(label).unwrap().push(line.to_owned());
            }
        }
        inventory
    }

    fn add_heading(&mut self, heading: &str) {
        let Some((file, count)) =
            heading.split_once(": ").filter(|(file, _)| file.ends_with(".rs"))
        else {
            return;
        };
        let number = count.split(' ').next().and_then(|number| number.parse().ok());
        let new = match number {
            Some(number) => self.headings.insert(file.to_owned(), number).is_none(),
            None => false,
        };
        if !new {
            self.faults.push(format!("heading without a number, or twice: {heading}"));
        }
    }
}

fn inventory() -> Inventory {
    Inventory::parse(&fs::read_to_string(root().join("SAFETY.md")).unwrap())
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_file_with_unsafe_code_has_a_heading_with_its_count() {
    let mut headings = inventory().headings;
    let mut faults = Vec::new();
    for (file, source) in sources().iter().filter(|(_, source)| source.is_unsafe()) {
        let blocks = source.blocks();
        let plural = if blocks == 1 { "" } else { "s" };
        if headings.remove(file) != Some(blocks) {
            faults.push(format!("SAFETY.md should say: ## {file}: {blocks} block{plural}"));
        }
    }
    faults.extend(
        headings.keys().map(|file| format!("SAFETY.md has {file}, which has nothing unsafe")),
    );
    assert_none(faults);
}

#[test]
fn unsafe_code_stands_only_where_it_is_allowed() {
    let is_allowed = |file: &String| ALLOWED.iter().any(|place| file.starts_with(place));
    let sources = sources();
    let faults = sources.iter().filter(|(file, source)| source.is_unsafe() && !is_allowed(file));
    assert_none(faults.map(|(file, _)| format!("unsafe code in {file}")).collect());
}

#[test]
fn every_label_that_is_cited_is_defined_and_every_one_defined_is_cited() {
    let mut cited: BTreeMap<String, String> = BTreeMap::new();
    for (file, source) in sources() {
        cited.extend(source.labels().into_iter().map(|label| (label, file.clone())));
    }
    let facts = inventory().facts;
    let undefined = cited.iter().filter(|(label, _)| !facts.contains_key(*label));
    let undefined =
        undefined.map(|(label, file)| format!("({label}) of {file} is not in SAFETY.md"));
    let uncited = facts.keys().filter(|label| !cited.contains_key(*label));
    let uncited = uncited.map(|label| format!("nothing cites {label} of SAFETY.md"));
    assert_none(undefined.chain(uncited).collect());
}

#[test]
fn every_fact_tells_who_keeps_it_what_would_break_it_and_what_tries_it() {
    let Inventory { facts, mut faults, .. } = inventory();
    for (label, lines) in &facts {
        for part in ["  Kept by: ", "  Would break: ", "  Tried by: "] {
            if !lines.iter().any(|line| line.starts_with(part)) {
                faults.push(format!("{label} lacks{part}"));
            }
        }
        for tried in lines.iter().filter_map(|line| line.strip_prefix("  Tried by: ")) {
            faults.extend(missing_tests(tried).map(|missing| format!("{label}: {missing}")));
        }
    }
    assert_none(faults);
}

/// What a line such as `tests/lock.rs, a_name; src/a.rs, another` names and the sources do not have.
fn missing_tests(tried: &str) -> impl Iterator<Item = String> {
    tried.split("; ").filter_map(|place| {
        let (file, test) = place.split_once(", ").filter(|(file, _)| file.ends_with(".rs"))?;
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        (!text.contains(&format!("fn {}(", test.trim()))).then(|| format!("no {test} in {file}"))
    })
}

#[test]
fn comments_strings_and_characters_are_not_counted() {
    let source = Source::parse(concat!(
        "// unsafe { } SAFETY: (not-1) here\n",
        "/* unsafe { /* nested unsafe {} */ unsafe {} */\n",
        "let a = \"unsafe { \\\" unsafe {\"; let b = r#\"unsafe { \" \"#; let c = br\"unsafe {\\\";\n",
        "let q = '\"'; let e = '\\''; let l: &'static str = c\"unsafe\"; unsafe_code(unsafe { 1 });\n",
    ));
    assert_eq!(source.blocks(), 1, "{}", source.code);
    assert_eq!(source.labels().into_iter().collect::<Vec<_>>(), ["not-1"]);
}

#[test]
fn functions_and_traits_ask_and_blocks_impls_externs_and_attributes_answer() {
    let source = Source::parse(
        "unsafe fn a() { unsafe { b() } } unsafe impl C for D {} unsafe extern \"C\" { fn e(); }
         unsafe extern \"C\" fn f() {} unsafe trait G {} #[unsafe(no_mangle)] fn h(i: unsafe fn()) {}",
    );
    assert_eq!(source.blocks(), 4, "{}", source.code);
    assert!(Source::parse("unsafe fn lonely() {}").is_unsafe());
    assert_eq!(Source::parse("unsafe fn lonely() {}").blocks(), 0);
}
