// Option names and spellings of other programs, rewritten as Smelt's own options before the command line is parsed.

import SmeltPipeline
import SmeltStorage

/// Names of options that other programs have.
enum Habits {
  /// Commands that make weights.
  private static let makers: Set<String> = ["plan", "convert", "quantize"]
  /// Commands that cut a text into windows.
  static let readers: Set<String> = ["calibrate", "quantize", "verify", "evaluate"]
  /// Commands that have an output of their own name.
  private static let writers: Set<String> = makers.union(["calibrate", "logits", "join"])

  /// Commands that write a report as JSON to stdout or into a file.
  static let reporters: Set<String> = ["verify", "compare"]

  /// Other spellings of options: nil for every command.
  static let synonyms: [(words: [String], option: String, commands: Set<String>?)] = [
    (["--imatrix"], "--statistics", makers),
    (["--outtype", "--quantization", "--quant-type"], "--scheme", makers),
    (["--outfile", "--out", "--output-dir", "--output_dir"], "--output", writers),
    (
      ["--force", "--yes", "-y"], "--overwrite",
      writers.subtracting(["plan"]).union(["verify", "compare", "diff"])
    ),
    (["-c", "--ctx-size"], "--context", readers),
    (["--file"], "--text", ["calibrate", "verify", "evaluate"]),
    (["--file", "--text"], "--calibration", ["quantize"]), (["-f"], "--text", ["evaluate"]),
    (["-n", "--n-predict", "--predict", "--max-new-tokens"], "--max-tokens", ["generate"]),
    (["-p"], "--prompt", ["generate"]), (["--temp"], "--temperature", ["generate"]),
    (["-s"], "--seed", ["generate"]),
    (["-j", "--jobs", "--n-threads"], "--threads", nil), (["--silent"], "--quiet", nil),
    (["--colour"], "--color", nil), (["--dryrun", "--dry_run"], "--dry-run", ["convert", "quantize"]),
  ]

  /// Options whose value may begin with a dash; the value is passed on unchanged.
  static let takers: Set<String> = [
    "--prompt", "--max-memory", "--target-size", "--split-max-size", "--max-shard-size", "--max-part-size",
    "--journal-step", "--unit-size",
  ]

  /// Words of other programs that have no counterpart, and what there is instead.
  static let answers: [(words: [String], answer: String)] = [
    (
      ["--leave-output-tensor"],
      "a scheme's name with :keep-head behind it keeps embeddings and output head: --scheme q4_k_m:keep-head"
    ),
    (
      [
        "--pure", "--tensor-type", "--tensor-type-file", "--output-tensor-type", "--token-embedding-type",
        "--ignore",
      ],
      "a recipe says which scheme for which role or name: --recipe FILE, Formats/recipe.md"
    ),
    (
      ["--include-weights", "--exclude-weights"],
      "all weights that the statistics know of take part; a recipe keeps others: --recipe FILE, Formats/recipe.md"
    ),
    (
      ["--allow-requantize"],
      "omit it: quantized sources are read as the numbers they hold, and verify says what is lost"
    ),
    (["--keep-split"], "--split-max-size SIZE cuts a .gguf into files"),
    (["--override-kv"], "keys follow from config.json: change it in a copy of the source"),
    (
      ["--group-size", "--group_size", "--q_group_size"],
      "the length of groups is part of the name: --scheme int4-group:64"
    ),
    (
      ["--wbits", "--w_bit", "--w-bit"], "the scheme says it: --scheme int8-channel, int4-group, q4_k_m"
    ),
    (
      ["--output-frequency", "--save-frequency", "-ofreq"],
      "--checkpoint-seconds says how much of a calibration may be lost, --resume continues it"
    ),
    (["--output-format"], "the name of the result says it: NAME.gguf is an importance matrix"),
    (["--in-file"], "--text takes several texts, and tasks that share one are joined by `smelt join`"),
    (["--show-statistics"], "--report FILE draws the tokens of each expert"),
    (["--no-ppl"], "omit it: no perplexity is computed; `smelt evaluate` does"),
    (["--process-output"], "omit it: all matrices that the pass multiplies by are recorded"),
    (
      ["--gpu", "--device", "-ngl", "--n-gpu-layers", "--gpu-layers"],
      "omit it: smelt runs on the processor"
    ),
  ]

  /// The same where a command alone lacks what the word means.
  private static let ownAnswers: [(command: String, words: [String], answer: String)] = [
    ("generate", ["-f", "--file"], "--prompt takes the text itself: --prompt \"$(cat FILE)\"")
  ]

  /// Commands of other programs, and what there is instead.
  static let commands: [(words: [String], answer: String)] = [
    (["perplexity", "ppl", "eval"], "`smelt evaluate MODEL --text FILE` prints the perplexity"),
    (["imatrix"], "`smelt calibrate MODEL matrix.gguf --text FILE` makes an importance matrix"),
    (["info", "show", "ls", "list"], "`smelt inspect MODEL` says what a model holds"),
    (["run", "chat", "cli"], "`smelt generate MODEL --prompt TEXT` continues a text"),
    (["validate", "lint"], "`smelt check MODEL` holds every rule and checksum against the files"),
    (["compress", "pack"], "`smelt convert MODEL out.ingot` compresses without loss"),
    (
      ["export", "dequantize"],
      "`smelt convert MODEL OUT/ --scheme bf16`, or f16 or f32, writes plain numbers"
    ),
    (
      ["download", "pull", "fetch"],
      "every command takes an address, hf://org/name: `smelt convert hf://org/name OUT/`"
    ),
  ]

  /// The words of a command line in the spelling of this program.
  /// - Throws: `RequestError` usage for words that are answered with a sentence, and for `-` in place of a name.
  static func rewritten(_ arguments: [String]) throws -> [String] {
    guard let command = arguments.first else { return arguments }
    if arguments.count == 1, ["-V", "-v", "version"].contains(command) { return ["--version"] }
    let end = arguments.firstIndex(of: "--") ?? arguments.endIndex
    var words: [String] = []
    var model: [String] = []
    var rest = arguments[..<end].dropFirst()
    let isJob = command == "job"  // its words are another command's
    let verb = isJob ? jobVerb(arguments[..<end]) : command
    while let word = rest.popFirst() {
      let name = word.hasPrefix("-") ? String(word.prefix { $0 != "=" }) : word
      let value = name == word ? nil : String(word.dropFirst(name.count + 1))
      try refuseDash(word, name, value, after: words.last, command)
      let answer =
        answers.first { $0.words.contains(name) }?.answer
        ?? ownAnswers.first { $0.command == command && $0.words.contains(name) }?.answer
      if let answer, !isJob {
        throw RequestError(.usage, "there is no option \(name) here", help: answer)
      }
      if ["--no-color", "--no-colour"].contains(word) {
        words.append("--color=never")
      } else if ["-m", "--model"].contains(name), !["demo", "bench", "job"].contains(command) {
        guard let path = value ?? rest.popFirst() else {
          throw RequestError(.usage, "\(name) without a model", help: "the model is the first operand")
        }
        model.append(path)
      } else if let found = synonyms.first(where: {
        $0.words.contains(name) && $0.commands?.contains(verb) ?? true
      }) {
        words.append(found.option + (value.map { "=" + $0 } ?? ""))
      } else {
        words.append(word)
      }
      if value == nil, let last = words.last, takers.contains(last), let next = rest.popFirst() {
        try refuseDash(next, next, nil, after: last, command)
        words.append(next)
      }
    }
    if readers.contains(verb) { try readChunks(&words, verb, operands: model.count) }
    return [command] + model + words + arguments[end...]
  }

  /// Rewrites words of llama-imatrix and llama-perplexity that need others beside them: `--chunks N`, windows of `--context`, and `-f`,
  /// which is the text of a calibration where no other is given.
  private static func readChunks(_ words: inout [String], _ verb: String, operands: Int) throws {
    func place(of option: String) -> Int? {
      words.firstIndex { $0 == option || $0.hasPrefix(option + "=") }
    }
    func value(at place: Int) -> String? {
      if let equal = words[place].firstIndex(of: "=") {
        return String(words[place][words[place].index(after: equal)...])
      }
      return place + 1 < words.count ? words[place + 1] : nil
    }
    if verb == "calibrate", let flag = words.firstIndex(of: "-f"), flag + 1 < words.count,
      !words[flag + 1].hasPrefix("-"), place(of: "--text") == nil, place(of: "--tokens") == nil
    {
      // Elsewhere -f is --overwrite: a word behind it that is needed as an operand is no text.
      let named = place(of: "--output") != nil || place(of: "-o") != nil
      let others = words.indices.filter { place in
        !words[place].hasPrefix("-") && (place == 0 || !takers.contains(words[place - 1]))
      }
      if operands + others.count > (named ? 1 : 2) { words[flag] = "--text" }
    }
    guard let chunks = place(of: "--chunks") else { return }
    let context =
      place(of: "--context").map { value(at: $0).flatMap { Int($0) } ?? 0 } ?? WindowOptions.usualContext
    guard let count = value(at: chunks).flatMap({ Int($0) }), count == -1 || count > 0,
      case let (tokens, overflow) = count.multipliedReportingOverflow(by: max(1, context)), !overflow
    else {
      throw RequestError(
        .usage, "--chunks is no number of windows", help: "--tokens-limit N says how many tokens are used")
    }
    words.removeSubrange(chunks...(words[chunks].contains("=") ? chunks : chunks + 1))
    // Without a context that is a number, what is wrong with it is said of it.
    if count > 0, context > 0 { words.insert("--tokens-limit=\(tokens)", at: chunks) }
  }

  /// The verb whose words a script's command line has.
  static func jobVerb(_ arguments: ArraySlice<String>) -> String {
    for (word, next) in zip(arguments, arguments.dropFirst() + [""]) {
      if word == "--verb" { return next }
      if word.hasPrefix("--verb=") { return String(word.dropFirst(7)) }
    }
    return "convert"
  }

  /// Refuses `-`, which is stdin or stdout elsewhere.
  private static func refuseDash(
    _ word: String, _ name: String, _ value: String?, after last: String?, _ command: String
  ) throws {
    guard word == "-" || value == "-" else { return }
    let flags = ["-q", "-v", "-f", "-h"]
    let option = value == "-" ? name : last.flatMap { $0.hasPrefix("-") && !flags.contains($0) ? $0 : nil }
    // A verdict as JSON goes to stdout, and a prompt is no name.
    if let option, ["--prompt", "-p"].contains(option) || option == "--json" && reporters.contains(command) {
      return
    }
    throw RequestError(
      .usage, "'-' \(option.map { "for \($0)" } ?? "as an operand"): stdin and stdout are no files here",
      help: "give a path; a file of that name is ./-")
  }

  /// Where `--json` stands before a word that may be its file or an operand; nil elsewhere.
  static func openJSON(_ arguments: [String]) -> Int? {
    guard let command = arguments.first, reporters.contains(command),
      let place = arguments.firstIndex(of: "--json"),
      place + 1 < arguments.count
    else { return nil }
    let next = arguments[place + 1]
    guard !next.hasPrefix("-") else { return nil }
    // A report is what `compare` reads, and never what it writes.
    return (command == "compare" ? ReportFile.isReport(next) : !next.hasSuffix(".json")) ? place : nil
  }
}
