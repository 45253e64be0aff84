// What a container does with the work of many machines: it writes units, and joins them to a result.

package import SmeltContainers
package import SmeltQuantization
package import SmeltStorage

/// A conversion whose units are written apart.
package protocol UnitWork {
  /// The units.
  var units: UnitPlan { get }
  /// Starts the file of a unit.
  /// - Throws: `RequestError` cannot-create, io.
  func sink(_ unit: ResultUnit, _ path: String) throws -> any UnitSink
  /// Holds the file of a unit against what is said of it.
  /// - Throws: `UNIT_MISMATCH`; `RequestError` io, interrupted.
  func check(_ file: UnitFile) throws
  /// Makes the result of all units' files, in their order, each verified while it is read or before.
  /// - Throws: `UNIT_MISMATCH` for a file that is not what was written; `RequestError` cannot-create, io.
  func join(_ parts: [UnitFile], ledger: [LedgerEntry]) throws -> ResultSummary
}

extension UnitWork {
  /// Every byte is read.
  package func check(_ file: UnitFile) throws { try file.check() }
}

/// A container whose results many machines can write.
package protocol SharedTarget {
  /// The work. Depends on headers, recipe and options alone.
  /// - Throws: as `ResultTarget.sink`, what lies under the name of the result apart.
  func unitWork(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any UnitWork
}

extension ConvertOptions {
  /// The work of many machines on a result.
  /// - Throws: `RequestError` unsupported where the container allows none; as `SharedTarget.unitWork`.
  package func unitWork(_ path: String, _ plan: Plan, _ model: Model) throws -> any UnitWork {
    guard let shared = target as? any SharedTarget else {
      throw RequestError(.unsupported, "a result in '\(target.name)' is written by one machine")
    }
    return try shared.unitWork(path, plan, model, self)
  }
}

/// Writes the file of one unit, slab after slab in the plan's order.
package protocol UnitSink: AnyObject {
  /// The next slab begins.
  func begin(_ slab: OutputMatrix, form: ChunkForm) throws
  /// The next bytes of its codes.
  func append(_ piece: ConvertedPiece) throws
  /// Its codes are whole; the other parts follow, in the encoding's order.
  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws
  /// All slabs are there: the file gets its name.
  /// - Returns: its bytes, what tells them from others, and the container's own numbers.
  func finish() throws -> (byteCount: Int, sum: UInt64, counts: [Int])
}

/// The file of a unit that is done.
package struct UnitFile: Sendable {
  /// Where it lies.
  let path: String
  /// Its bytes.
  let byteCount: Int
  /// XXH64 of them; of an ingot, what tells it from others.
  let sum: UInt64
  /// The container's own numbers.
  let counts: [Int]

  /// Reads the file and holds it against what is said of it.
  /// - Throws: `UNIT_MISMATCH`; `RequestError` io, interrupted.
  func check() throws {
    guard let found = try? FileSum.xxh64.contents(of: path), found.byteCount == byteCount, found.sum == sum
    else {
      try Interrupt.check()
      throw refusal
    }
  }

  /// It is another file.
  var refusal: FormatError { FormatError(.unitMismatch, file: path, "is not the file that was written") }
}
