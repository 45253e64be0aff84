// How long work is run.

package import SmeltStorage

/// Options that every command that runs a model shares.
package struct RunOptions: Sendable {
  /// The threads to use.
  package var parallel: Parallel
  /// Bytes that activations may take; weights are mapped or cached beside it.
  package var maxMemory: Int
  /// Hears of progress.
  package var progress: any ProgressReporter
  /// The arithmetic of products where a command leaves a choice: `evaluate`, `generate`, and `verify`'s pass with rounded activations.
  package var compute = Compute.float32

  /// Options; all cores and 2 GiB by default.
  package init(
    parallel: Parallel = .allCores, maxMemory: Int = 2 << 30,
    progress: any ProgressReporter = SilentProgress()
  ) {
    self.parallel = parallel
    self.maxMemory = maxMemory
    self.progress = progress
  }

  /// Works on results while no other run does; says what runs that were killed have left of them.
  /// - Throws: `RequestError` usage where two outputs of a command have one name; cannot-create when another run holds a lock.
  package func holding<T>(_ results: [String], _ verb: String, _ body: () throws -> T) throws -> T {
    try ResultLock.holding(results, verb: verb, report: { progress.warn($0) }, body)
  }
}
