// Memory that the system does not give. The language ends the program there; what can be done is to say why in our own words and
// with our own exit status.

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What happens when memory runs out: the message of an input/output error, and exit status 74.
package enum OutOfMemory {
  /// From now on the end of the program when memory runs out is reported as such. Files that were being written stay beside their
  /// targets, as after a kill.
  package static func install() { sk_report_out_of_memory() }

  /// Memory for a large buffer, to be freed with `free`; ends the program if memory runs out.
  /// - Parameter alignment: a power of two of at least 16.
  static func allocate(_ byteCount: Int, alignment: Int) -> UnsafeMutableRawPointer {
    // SAFETY: the memory is not initialized and belongs to the caller, who frees it once.
    var memory: UnsafeMutableRawPointer?
    guard posix_memalign(&memory, alignment, max(1, byteCount)) == 0, let memory else { stop(byteCount) }
    return memory
  }

  /// Ends the program unless the system would give so much memory now. Asked before large arrays are made, which have no way to
  /// fail; small ones are not worth the question.
  package static func require(_ byteCount: Int) {
    guard byteCount >= 1 << 22 else { return }
    guard let memory = malloc(byteCount) else { stop(byteCount) }
    free(memory)
  }

  private static func stop(_ byteCount: Int) -> Never {
    stop(
      "out of memory: \(byteCount) bytes were asked for",
      help: "give the program more memory (ulimit -v), or pass fewer --threads or a smaller --max-memory")
  }

  /// Ends the program with an input/output error of these words.
  static func stop(_ problem: String, help: String) -> Never {
    let error = RequestError(.io, problem, help: help)
    var text = Array((error.description + "\n").utf8)
    text.withUnsafeMutableBytes { _ = write(2, $0.baseAddress, $0.count) }
    _exit(error.exitStatus)
  }
}
