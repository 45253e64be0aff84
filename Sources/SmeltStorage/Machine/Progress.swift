// How long work tells what it does. The command line draws bars; a library user may ignore it.

/// Receives the progress of a piece of work. Calls come from one thread at a time.
package protocol ProgressReporter: Sendable {
  /// A stage begins: what it does, how much there is, and in which unit (`bytes`, `tokens`, `layers`, `weights`).
  func begin(_ title: String, total: Int, unit: String)
  /// So much more of the stage is done.
  func advance(_ amount: Int)
  /// The stage is over.
  func end()
  /// What is about to be done, in one line, before it begins.
  func announce(_ text: String)
  /// Something that a person should know and that refuses nothing, in one line.
  func warn(_ text: String)
}

extension ProgressReporter {
  /// Ignored unless a reporter says otherwise.
  package func announce(_ text: String) {}
  /// Announced unless a reporter says otherwise.
  package func warn(_ text: String) { announce(text) }
}

/// Ignores all progress.
package struct SilentProgress: ProgressReporter {
  /// A reporter that ignores everything.
  package init() {}
  /// Ignored.
  package func begin(_ title: String, total: Int, unit: String) {}
  /// Ignored.
  package func advance(_ amount: Int) {}
  /// Ignored.
  package func end() {}
}
