// What stands beside a unit's file: which unit it is, of which work, what its bytes are and what reading the source told.
// Formats/cluster.md, section 3.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A unit that is done.
struct UnitManifest: Sendable {
  /// The `schema` of the file.
  static let schema = "smelt.unit/1"
  /// The ending of its name, behind that of the unit's file.
  static let ending = ".unit.json"
  private static let byteLimit = 1 << 30

  /// What the work is: program, source, recipe, statistics, layout.
  var work: JSON
  /// What was asked for, so that the parts can be joined without being told again.
  var request: JSON
  var unit: Int
  var units: Int
  var file: String
  var byteCount: Int
  /// XXH64 of the file.
  var sum: UInt64
  var done: [ConversionJournal.Done]
  /// Numbers of the container's own.
  var counts: [Int]

  /// The path of the manifest of a unit's file.
  static func path(_ file: String) -> String { file + ending }

  var text: [UInt8] {
    let json: JSON = [
      "schema": JSON(Self.schema), "unit": JSON(unit), "units": JSON(units), "file": JSON(file),
      "bytes": JSON(byteCount), "xxh64": JSON(hexadecimal(sum)), "counts": JSON(counts.map { JSON($0) }),
      "done": ConversionJournal.list(done), "work": work, "request": request,
    ]
    return Array((json.text() + "\n").utf8)
  }

  init(
    work: JSON, request: JSON, _ unit: ResultUnit, of units: Int, byteCount: Int, sum: UInt64,
    done: [ConversionJournal.Done], counts: [Int]
  ) {
    (self.work, self.request, self.unit, self.units) = (work, request, unit.number, units)
    (file, self.byteCount, self.sum, self.done, self.counts) = (unit.file, byteCount, sum, done, counts)
  }

  /// The manifest of a file that is there, a part of something else than a conversion.
  /// - Throws: `RequestError` io, interrupted.
  init(work: JSON, request: JSON, part: Int, of parts: Int, path: String, counts: [Int]) throws {
    (self.work, self.request, unit, units) = (work, request, part, parts)
    let made = try FileSum.xxh64.contents(of: path)
    (file, byteCount, sum, self.counts) = (fileName(path), made.byteCount, made.sum, counts)
    done = []
  }

  /// Reads a manifest.
  /// - Throws: `UNIT_MISMATCH` for a file that is not a unit's manifest.
  init(path: String) throws {
    let invalid = FormatError(
      .unitMismatch, file: path,
      "does not describe a unit of a conversion, or a part of a calibration or verification")
    guard let stamp = try? MappedFile(path: path), stamp.count <= Self.byteLimit,
      let json = try? JSON.scan(stamp.bytes, limits: JSONLimits(values: 64 << 20)),
      json["schema"]?.string == Self.schema, let unit = json["unit"]?.integer,
      let units = json["units"]?.integer, (0..<units).contains(unit), let file = json["file"]?.string,
      path.hasSuffix(Self.path(file)), !file.contains("/"), let bytes = json["bytes"]?.integer, bytes >= 0,
      let digits = json["xxh64"]?.string, digits.utf8.count == 16, let sum = UInt64(digits, radix: 16),
      let counts = json["counts"]?.array?.map({ $0.integer ?? -1 }), counts.allSatisfy({ $0 >= 0 }),
      let work = json["work"], let request = json["request"]
    else { throw invalid }
    (self.work, self.request, self.unit, self.units) = (work, request, unit, units)
    (self.file, byteCount, self.sum, self.counts) = (file, bytes, sum, counts)
    do {
      done = try ConversionJournal.done(json, file: path)
    } catch {
      throw invalid
    }
  }

  /// Holds what is said to be done against the unit of a plan.
  /// - Throws: `UNIT_MISMATCH`.
  func check(_ own: ResultUnit, _ plan: Plan, work: JSON, path: String) throws {
    if let place = ResultJournal.difference(self.work, work) {
      throw FormatError(
        .unitMismatch, file: path, subject: place.key, "is of other work: \(place.problem)")
    }
    let names = plan.slabs[own.slabs].map(\.name)
    let isEqual = file == own.file && done.map(\.slab) == names
    let hasHashes = zip(done, plan.slabs[own.slabs]).allSatisfy {
      $0.facts.sourceHashes.count == ($1.other == nil ? 1 : 2)
        && (0...($1.isKept ? 0 : $1.shape.count)).contains($0.facts.inexactValues)
    }
    guard isEqual, hasHashes else {
      throw FormatError(.unitMismatch, file: path, "does not hold the weights of unit \(unit)")
    }
  }
}

extension UnitManifest {
  /// Holds a part against what it should be.
  /// - Throws: `UNIT_MISMATCH`.
  func check(_ part: Int, of parts: Int, work: JSON, counts: [Int], path: String) throws(FormatError) {
    if let place = ResultJournal.difference(self.work, work) {
      // The tokens come before the text they were made of: they were found to be the same.
      let hasFiles = ["text.text_sha256", "text.text_files"].contains(place.key)
      throw FormatError(
        .unitMismatch, file: path, subject: place.key,
        (hasFiles ? "is of the same tokens, read from other files: " : "is of other work: ") + place.problem,
        help: hasFiles ? "give all tasks the text in the same files" : nil)
    }
    guard unit == part, units == parts, self.counts == counts, done.isEmpty else {
      throw FormatError(.unitMismatch, file: path, "does not hold part \(part + 1) of \(parts)")
    }
  }

  /// Refuses a folder with units of other names than these: no join would take them.
  /// - Throws: `UNIT_MISMATCH`.
  static func requireNames(_ names: Set<String>, in folder: String) throws {
    for list in try namesInFolder(folder) where list.hasSuffix(ending) {
      guard names.contains(String(list.dropLast(ending.count))) else {
        throw FormatError(
          .unitMismatch, file: joinPath(folder, list),
          "is of other work: none of the units here has this name",
          help: "move the folder away, or give the options that its tasks were given")
      }
    }
  }

  /// Whether a part is there, of this work. Its bytes are read when the parts are joined.
  /// - Throws: `UNIT_MISMATCH` for one of other work, unless it is to be replaced; `RequestError` cannot-create for what is no part.
  static func isThere(
    _ part: Int, of parts: Int, work: JSON, counts: [Int], path: String, overwrite: Bool
  ) throws -> Bool {
    // Killed before it had its list, a part is held against what is made anew: what is no part at all is refused before that work.
    guard pathKind(path) == .nothing || pathKind(UnitManifest.path(path)) != .nothing || isPart(path) else {
      throw RequestError(
        .cannotCreate, "'\(path)' exists, and is not a part that smelt wrote", help: "move it away")
    }
    return try isThere(path, overwrite: overwrite) { manifest, place in
      try manifest.check(part, of: parts, work: work, counts: counts, path: place)
    } isWritten: {
      try $0.check()
    }
  }

  /// Whether a unit's file is there, of the work at hand. One of other work is removed where it may be replaced: a file that no list
  /// speaks of, or that is not what its list says, may be anybody's and stays.
  /// - Parameters:
  ///   - path: the unit's file.
  ///   - isOwn: refuses the list of other work.
  ///   - isWritten: holds a file against what its list says.
  /// - Throws: `UNIT_MISMATCH` for one of other work, unless it is to be replaced; `RequestError` cannot-create for what is no unit.
  static func isThere(
    _ path: String, overwrite: Bool, isOwn: (UnitManifest, _ path: String) throws -> Void,
    isWritten: (UnitFile) throws -> Void
  ) throws -> Bool {
    let place = UnitManifest.path(path)
    guard pathKind(place) != .nothing else { return false }
    var found: UnitManifest?
    do {
      let manifest = try UnitManifest(path: place)
      found = manifest
      try isOwn(manifest, place)
      guard let bytes = fileByteCount(path) else { return false }
      guard bytes == manifest.byteCount else { throw foreign(path) }
      return true
    } catch var refusal as FormatError {
      guard overwrite else {
        refusal.help =
          found == nil
          ? "move it away"
          : "move the folder away, or give --overwrite to replace what is of other work"
        throw refusal
      }
    }
    try requireCreatable(place, replacing: .only(.unitManifest))
    if pathKind(path) != .nothing {
      let file = found.map {
        UnitFile(path: path, byteCount: $0.byteCount, sum: $0.sum, counts: $0.counts)
      }
      do {
        guard let file else { throw foreign(path) }
        try isWritten(file)
      } catch is FormatError {
        throw foreign(path)
      }
      removeFile(path)
    }
    removeFile(place)
    return false
  }

  /// Whether a file says that it is a part of statistics or of a report.
  private static func isPart(_ path: String) -> Bool {
    guard let file = try? SafetensorsFile(path: path) else { return false }
    return file.metadata.contains { $0.0 == "format" && $0.1.hasPrefix("smelt.") }
  }

  private static func foreign(_ path: String) -> RequestError {
    RequestError(
      .cannotCreate,
      "'\(path)' is not replaced: it is not the file that its list '\(fileName(path + ending))' names",
      help: "move it away, and give the command again")
  }
}
