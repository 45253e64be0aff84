// Which instruction set the kernels run with, as users name it.

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The instruction set of the kernels: the best that the machine has, or what the environment variable `SMELT_ISA` names.
package enum InstructionSet {
  private static var known: [(number: Int32, word: String)] {
    var known: [(Int32, String)] = []
    while let word = sk_isa_word(Int32(known.count)) {
      known.append((Int32(known.count), String(cString: word)))
    }
    return known
  }

  /// The words of `SMELT_ISA`.
  package static var words: [String] { known.map(\.word) }

  /// Those that this machine can run.
  package static var available: [String] { known.filter { sk_isa_available($0.number) == 1 }.map(\.word) }

  /// The one that runs, for people: `AVX2`.
  package static var current: String { String(cString: sk_isa_name(sk_isa_current())) }

  /// Refuses a word of `SMELT_ISA` that names none, or one that the machine does not have.
  /// - Throws: `RequestError` usage.
  package static func check() throws {
    let asked = sk_isa_asked()
    guard asked != SK_ISA_ANY, asked < 0 || sk_isa_available(asked) == 0, let value = getenv("SMELT_ISA")
    else { return }
    let word = excerpt(String(cString: value))
    throw RequestError(
      .usage,
      asked < 0
        ? "SMELT_ISA is '\(word)', which is not an instruction set"
        : "SMELT_ISA is '\(word)', which this machine does not have",
      help: "this machine runs \(available.joined(separator: ", ")); unset it for the best")
  }
}
