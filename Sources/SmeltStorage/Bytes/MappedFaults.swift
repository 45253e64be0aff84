// The end of a process that touches a page which cannot be read.

internal import CKernels
internal import Synchronization

/// What happens when a page of a mapped file cannot be read.
package enum MappedFaults {
  /// From now on the process ends with `SRC_CHANGED` (status 2) where the file is no longer what it was when it was mapped, else
  /// with an input/output error (74), and three lines on stderr that name the file. Without it the system's signal kills it.
  package static func install() { sk_fault_install() }

  /// Has the line of a progress bar cleared before such an error.
  package static func clearsLine() {
    hasLine.store(true, ordering: .relaxed)
    sk_fault_clear_line("\r\u{1B}[K")
  }

  private static let hasLine = Atomic<Bool>(false)

  /// What clears the line of a progress bar, where there is one.
  static var lineClearing: String { hasLine.load(ordering: .relaxed) ? "\r\u{1B}[K" : "" }
}
