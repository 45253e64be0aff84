// Options that commands share.

import ArgumentParser
import SmeltHub
import SmeltPipeline
import SmeltStorage

/// Flags of every command that runs for long.
struct CommonOptions: ParsableArguments {
  @Option(
    name: [.customShort("t"), .long],
    help: ArgumentHelp("Threads to use; one a core by default. Results never depend on it.", valueName: "n"))
  var threads: Int?

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "Memory that activations may take, for example 500MB or 2GiB (\(sizeUnits)).", valueName: "size"),
    transform: byteSize)
  var maxMemory: ByteSize = ByteSize(2 << 30)

  @Flag(name: [.customShort("q"), .long], help: "Nothing on stderr but errors.")
  var quiet = false

  @Flag(name: [.customShort("v"), .long], help: "Also say on stderr how long each stage took.")
  var verbose = false

  func validate() throws {
    guard (1...1024).contains(threads ?? 1) else { throw ValidationError("--threads must be from 1 to 1024") }
  }

  var run: RunOptions {
    RemoteModels.limitMemory(maxMemory.bytes)
    return RunOptions(
      parallel: threads.map { Parallel(threads: $0) } ?? .allCores, maxMemory: maxMemory.bytes,
      progress: Reporters.chosen(isQuiet: quiet, isVerbose: verbose))
  }
}

/// How a model is opened.
struct OpenOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Leave out tensors that no rule explains and whose names match (* and ?); scales, zero points, biases, norms, routers and heads by their whole names only; may be repeated.",
      valueName: "pattern"))
  var allowDrop: [String] = []
  @Flag(
    name: .long,
    help: "Take org/name for a repository of the hub, hf://org/name, where there is no such path.")
  var hub = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Keep what is fetched of a repository, in the layout of the hub's cache: it is not fetched again, and other tools find it.",
      valueName: "folder"), completion: .file())
  var keep: String?
  @Flag(
    name: .long, help: "Fetch from http:// addresses of other machines, which others can read and change.")
  var allowHttp = false

  /// What is said of models elsewhere.
  var remote: RemoteOptions {
    var options = RemoteOptions()
    (options.isHub, options.keep, options.allowsHTTP) = (hub, keep, allowHttp)
    return options
  }

  /// Opens a model. What is worth saying about it, and which of its tensors take no part, goes to stderr, unless the command's
  /// own report says it.
  func open(_ path: String, isReported: Bool = false) throws -> Model {
    let model = try Model.open(path, allowDrop: allowDrop, remote: remote)
    guard !isReported else { return model }
    for warning in model.warnings { Terminal.warn("\(path): \(warning)") }
    for left in model.leftOut { Terminal.note("left out: \(left.text)") }
    return model
  }
}

/// The arithmetic of commands that leave a choice.
struct ComputeOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The arithmetic of products: float32, or int8, which multiplies INT8 weights that are declared to meet INT8 activations and weights in GGUF's blocks as whole numbers, as engines run W8A8 and llama.cpp its types, and the others in float32.",
      valueName: "kind"), completion: .list(Compute.allCases.map(\.rawValue)))
  var compute: String = Compute.float32.rawValue

  /// Options of a run in this arithmetic.
  /// - Throws: `RequestError` usage for another word.
  func run(_ options: RunOptions) throws -> RunOptions {
    var options = options
    options.compute = try Compute.named(compute)
    return options
  }
}

/// The flag of every command that reports on stdout.
struct JSONOption: ParsableArguments {
  @Flag(name: .long, help: "Print one JSON object instead of text.")
  var json = false
  @OptionGroup var color: ColorOption

  /// Prints what was asked for; the other is not made.
  func show(_ json: @autoclosure () throws -> JSON, _ text: @autoclosure () throws -> String) throws {
    if self.json { try Output.json(json()) } else { try Output.report(text()) }
  }
}

/// Reads the size that an option is given.
/// - Throws: `ValidationError` saying what is accepted.
@Sendable func byteSize(_ text: String) throws -> ByteSize {
  do {
    return try ByteSize(parsing: text)
  } catch {
    throw ValidationError(error.description)
  }
}

/// How the help of an option explains its unit.
let sizeUnits = "MB is 10^6 bytes, MiB 2^20"
