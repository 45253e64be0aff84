// Ctrl-C: the first one asks the work to stop at the next safe point, the second one kills. The cancellation of a task asks for
// the same of whatever runs in it.

internal import CKernels
internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Whether the user asked to stop.
package enum Interrupt {
  private static let requested = Atomic<Bool>(false)

  /// Catches SIGINT, SIGTERM and SIGHUP from now on. A second signal has its usual, deadly effect.
  package static func install() {
    for number in [SIGINT, SIGTERM, SIGHUP] {
      // What the caller has ignored stays so: `nohup`, and jobs in the background of a script.
      guard sk_is_ignored(number) == 0 else { continue }
      signal(number) { number in
        Interrupt.requested.store(true, ordering: .relaxed)
        signal(number, SIG_DFL)
      }
    }
    signal(SIGPIPE, SIG_IGN)
    // A file beyond the user's limit is an error of `write`, not the end of the program.
    signal(SIGXFSZ, SIG_IGN)
  }

  /// Whether a signal asked to stop.
  package static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// Throws `RequestError` interrupted once the user asked to stop, or the task that calls was cancelled. Long loops call it
  /// between steps.
  package static func check() throws {
    if Task.isCancelled {
      throw RequestError(
        .interrupted, "stopped, since its task was cancelled; no result was written", help: "start again")
    }
    if requested.load(ordering: .relaxed) {
      throw RequestError(
        .interrupted, "stopped by a signal; no result was written",
        help: "start the command again")
    }
  }
}
