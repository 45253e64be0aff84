// Runs the built command as a user would: a line of shell in a folder of its own, with what it prints and its exit status.

import SmeltStorage
import SmeltTestSupport

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a command did.
struct Outcome {
  /// The exit status; 128 and the signal's number where a signal ended it.
  let exit: Int32
  let stdout: String
  let stderr: String

  /// The one JSON object on stdout.
  func json() throws -> JSON { try JSON.scan(stdout) }
}

/// A folder with links `v4`, `fp4` and `tiny` to the golden checkpoints, in which lines of shell run.
final class Shell {
  private let work: TemporaryFolder
  private let outputs = TemporaryFolder()

  /// Children that nobody has waited for: an unreaped one hides the end of others from whoever waits for any.
  private var running: Set<pid_t> = []

  deinit {
    for process in running {
      kill(process, SIGKILL)
      var status: Int32 = 0
      waitpid(process, &status, 0)
    }
  }

  /// Another one in the same folder, with outputs of its own.
  init(in other: Shell) { work = other.work }

  init() {
    work = TemporaryFolder()
    for (name, model) in [("v4", "deepseek_v4"), ("fp4", "deepseek_v4-fp4"), ("tiny", "tiny-v4")] {
      symlink(fixture("models/\(model)"), work.file(name))
    }
  }

  /// A path in the folder.
  func file(_ name: String) -> String { work.file(name) }

  /// What the commands left in the folder.
  func names() throws -> [String] {
    try namesInFolder(work.path).filter { !["v4", "fp4", "tiny"].contains($0) }
  }

  func write(_ name: String, _ text: String) throws {
    try writeFile(file(name), Array(text.utf8), overwrite: true)
  }

  /// Writes two reports of `verify` that `compare` takes, `r.json` and `r2.json`.
  func writeReports() throws {
    for (name, bytes, kl) in [("r.json", 2_000_000, "0.001"), ("r2.json", 1_100_000, "0.02")] {
      try write(
        name,
        """
        {"schema": "smelt.verify/3", "text": {"sha256": "aa"}, "source": {"path": "models/source-with-a-long-name", "container":
        "safetensors", "family": "llama", "bytes": 4000000, "left_out": []}, "result": {"path": "out/\(name).gguf",
        "container": "gguf", "bytes": \(bytes)}, "tokens": 512, "context": 256, "tokenization": "tokens",
        "perplexity": {"source": 12.5, "result": 12.75}, "kl": {"mean": \(kl), "p99": 0.1, "floor": 1e-13,
        "interval": {"low": 0.0009, "high": 0.03}}, "top1_agreement": 0.97, "not_run": null, "verdict": "pass"}
        """)
    }
  }

  /// Runs lines of shell that call `smelt`.
  func run(_ script: String) throws -> Outcome {
    try finish(try start("smelt() { \"$SMELT\" \"$@\"; }\n{ \(script)\n} >\"$OUT\" 2>\"$ERR\" </dev/null"))
  }

  /// Starts one command whose process gets the signals that a test sends.
  func launch(_ command: String) throws -> pid_t {
    try start("exec \"$SMELT\" \(command) >\"$OUT\" 2>\"$ERR\" </dev/null")
  }

  /// Runs one command on a terminal.
  /// - Parameters:
  ///   - settings: of the environment: `TERM=xterm NO_COLOR=1`.
  ///   - columns: that the terminal says it has; 0 for one that does not say.
  /// - Returns: all that the terminal was sent as `stdout`, with plain line breaks.
  func onTerminal(_ command: String, _ settings: String, columns: Int = 80) throws -> Outcome {
    let (terminal, path) = try newTerminal()
    defer { close(terminal) }
    var size = winsize(ws_row: 24, ws_col: UInt16(columns), ws_xpixel: 0, ws_ypixel: 0)
    // The other end stays open, or what is written would be lost with it.
    let other = open(path, O_RDWR | O_NOCTTY)
    defer { close(other) }
    guard ioctl(other, UInt(TIOCSWINSZ), &size) == 0 else {
      throw RequestError(.io, "a terminal takes no size: \(Platform.lastError())")
    }
    _ = fcntl(terminal, F_SETFL, fcntl(terminal, F_GETFL) | O_NONBLOCK)
    var sent: [UInt8] = []
    func take() {
      var buffer = [UInt8](repeating: 0, count: 4096)
      while case let count = read(terminal, &buffer, buffer.count), count > 0 { sent += buffer[..<count] }
    }
    let process = try start("exec env \(settings) \"$SMELT\" \(command) >'\(path)' 2>&1 </dev/null")
    let outcome = try finish(process) { take() }
    take()
    let text = String(decoding: sent, as: UTF8.self).replacing("\r\n", with: "\n")
    return Outcome(exit: outcome.exit, stdout: text, stderr: "")
  }

  /// Waits for a condition, for a minute at most.
  func wait(until condition: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<6000 {
      if try condition() { return true }
      usleep(10_000)
    }
    return false
  }

  /// Waits for the end of a process; kills it after a minute.
  /// - Parameter meanwhile: done again and again until then.
  func finish(_ process: pid_t, meanwhile: () -> Void = {}) throws -> Outcome {
    var status: Int32 = 0
    defer { running.remove(process) }
    let isOver = wait {
      meanwhile()
      return waitpid(process, &status, WNOHANG) == process
    }
    if !isOver {
      kill(process, SIGKILL)
      waitpid(process, &status, 0)
    }
    let signal = status & 0x7F
    return Outcome(
      exit: signal == 0 ? status >> 8 & 0xFF : 128 + signal, stdout: try output("out"),
      stderr: try output("err"))
  }

  /// What was printed so far to `out` or `err`.
  func output(_ name: String) throws -> String {
    guard pathKind(outputs.file(name)) == .file else { return "" }
    return String(decoding: try MappedFile(path: outputs.file(name)).bytes.array, as: UTF8.self)
  }

  private func start(_ script: String) throws -> pid_t {
    let environment = [
      "PATH=/usr/local/bin:/usr/bin:/bin", "SMELT=\(smeltExecutable)", "OUT=\(outputs.file("out"))",
      "ERR=\(outputs.file("err"))", "TMPDIR=\(work.path)", "LC_ALL=C",
      // A machine that is busy would show progress of work that is over at once elsewhere.
      "SMELT_PROGRESS_SECONDS=0",
    ]
    let arguments = ["/bin/sh", "-c", "cd '\(work.path)'\n\(script)"]
    #if canImport(Darwin)
      var attributes: posix_spawnattr_t?
    #else
      var attributes = posix_spawnattr_t()
    #endif
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A child inherits what the test's thread blocks and what the runner's caller ignores; a user's shell does neither.
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK))
    var process: pid_t = 0
    let error = withCStrings(arguments) { arguments in
      withCStrings(environment) { posix_spawn(&process, "/bin/sh", nil, &attributes, arguments, $0) }
    }
    guard error == 0 else { throw RequestError(.io, "cannot start /bin/sh: \(error)") }
    running.insert(process)
    return process
  }
}

/// The command under test: beside the test bundle, wherever the build put both.
let smeltExecutable: String = {
  var candidates: [String] = []
  for argument in CommandLine.arguments + ["/proc/self/exe"] {
    let path = argument == "/proc/self/exe" ? resolvedPath(argument) ?? argument : argument
    guard let end = path.range(of: ".xctest") else { continue }
    candidates.append(joinPath(parentFolder(String(path[..<end])), "smelt"))
  }
  candidates += ["debug", "release"].map { "\(repositoryRoot)/.build/\($0)/smelt" }
  guard let found = candidates.first(where: { pathKind($0) == .file }).flatMap(resolvedPath) else {
    preconditionFailure("the command is not built: \(candidates)")
  }
  return found
}()

extension String {
  /// The end of the first occurrence of a text.
  fileprivate func range(of text: String) -> String.Index? {
    var place = startIndex
    while place < endIndex {
      if self[place...].hasPrefix(text) { return index(place, offsetBy: text.count) }
      place = index(after: place)
    }
    return nil
  }
}

/// A terminal that nobody looks at: its own end, and the path of the other.
private func newTerminal() throws -> (descriptor: Int32, path: String) {
  #if canImport(Darwin)
    let terminal = posix_openpt(O_RDWR | O_NOCTTY)
    guard terminal >= 0, grantpt(terminal) == 0, unlockpt(terminal) == 0, let name = ptsname(terminal) else {
      throw RequestError(.io, "no terminal: \(Platform.lastError())")
    }
    return (terminal, String(cString: name))
  #else
    // What posix_openpt, unlockpt and ptsname do; Swift's Glibc lacks them. Source: ioctl_tty(2), TIOCSPTLCK and TIOCGPTN.
    let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    var (lock, number): (Int32, Int32) = (0, 0)
    guard terminal >= 0, ioctl(terminal, 0x4004_5431, &lock) == 0, ioctl(terminal, 0x8004_5430, &number) == 0
    else { throw RequestError(.io, "no terminal: \(Platform.lastError())") }
    return (terminal, "/dev/pts/\(number)")
  #endif
}

/// Lends a null-terminated list of C strings.
private func withCStrings<R>(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R) -> R {
  let pointers = strings.map { strdup($0) }
  defer { for pointer in pointers { free(pointer) } }
  return body(pointers + [nil])
}
