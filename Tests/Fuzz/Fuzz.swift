// What libFuzzer calls: one input, read the way a user's file is read. A coded error is an answer; a trap, a hang, an
// allocation beyond reason and an error without its words are findings. Fixtures/README.md, "Fuzzing".

import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// One kind of input: a name, and the one call that reads it.
struct FuzzTarget: Sendable {
  /// What `SMELT_FUZZ_TARGET` calls it.
  let name: String
  /// What is done to the input first: a checksum that guards everything behind it is made right.
  var prepare: @Sendable (inout [UInt8]) -> Void = { _ in }
  /// Reads the input. `path` is a file that holds it.
  let read: @Sendable (_ input: [UInt8], _ path: String) throws -> Void

  static let all: [FuzzTarget] = [safetensors, layouts, gguf, ingot, json, tokenizer, vocabulary, config]
}

/// The target of this process, and the file that holds its input.
private let session: (target: FuzzTarget, path: String, descriptor: Int32) = {
  let known = FuzzTarget.all.map(\.name).joined(separator: ", ")
  guard let name = getenv("SMELT_FUZZ_TARGET").map({ String(cString: $0) }),
    let target = FuzzTarget.all.first(where: { $0.name == name })
  else { fatalError("SMELT_FUZZ_TARGET must be one of: \(known)") }
  let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
  let path = "\(folder)/input.\(name)"
  let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
  precondition(descriptor >= 0, "cannot write \(path)")
  return (target, path, descriptor)
}()

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = Array(UnsafeBufferPointer(start: data, count: count))
  session.target.prepare(&input)
  precondition(ftruncate(session.descriptor, off_t(count)) == 0)
  precondition(pwrite(session.descriptor, input, count, 0) == count)
  answer { try session.target.read(input, session.path) }
  return 0
}

/// Runs a step that may be refused. A refusal must say what is wrong, in a few printable lines.
func answer(_ step: () throws -> Void) {
  do {
    try step()
  } catch let error as FormatError {
    let text = error.description
    precondition(!error.problem.isEmpty && error.file != nil, "a refusal that does not say what: \(text)")
    precondition(text.utf8.count < 4000, "a refusal of \(text.utf8.count) bytes")
    precondition(
      text.unicodeScalars.allSatisfy { $0 == "\n" || $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) },
      "a refusal that a terminal would obey")
  } catch let error as RequestError {
    precondition(error.kind == .unsupported, "\(error)")
  } catch {
    fatalError("an error without a code: \(error)")
  }
}

/// Reads every byte.
func touch(_ bytes: Bytes) {
  sink = bytes.withUnsafeBytes { $0.reduce(sink) { $0 &+ UInt64($1) } }
}

/// Keeps what was computed from being thought useless.
nonisolated(unsafe) var sink: UInt64 = 0
