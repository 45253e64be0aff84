// Files that a command writes beside its result, under names that a user gives: reports and pictures.

import SmeltContainers
import SmeltStorage

/// A report under a name that a user gave.
package struct ReportFile: Sendable {
  /// Its path.
  package let path: String
  private let replacement: Replacement

  private init(_ path: String, _ kind: OutputKind, _ overwrite: Bool) {
    self.path = path
    replacement = Replacement(overwrite: overwrite, kind)
  }

  /// What `verify` found, for machines.
  /// - Parameter overwrite: whether an earlier report of the kind is replaced; so with the others.
  package static func report(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, .report, overwrite)
  }

  /// Whether a file is a report of `verify` for machines.
  package static func isReport(_ path: String) -> Bool { OutputKind.report.isWritten(path) }

  /// What `verify` found, as a page.
  package static func page(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, .reportPage, overwrite)
  }

  /// Several reports side by side, for machines.
  package static func comparison(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, .comparison, overwrite)
  }

  /// Several reports side by side, as a page.
  package static func comparisonPage(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, .comparisonPage, overwrite)
  }

  /// What two models differ in, as a page.
  package static func difference(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, .differencePage, overwrite)
  }

  /// How tokens cover experts: a picture for a name that ends in `.svg`, else a page.
  package static func coverage(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, isPicture(path) ? .heatMap : .calibrationPage, overwrite)
  }

  /// What a conversion made of what.
  package static func statement(_ path: String, overwrite: Bool) -> ReportFile {
    ReportFile(path, .statement, overwrite)
  }

  fileprivate static func isPicture(_ path: String) -> Bool { path.lowercased().hasSuffix(".svg") }

  /// Refuses a file that cannot be written, before the work that it would take.
  /// - Throws: `OUT_ALIASES_INPUT` when it is a file of one of the models, or one of `others` that the command reads;
  ///   `RequestError` usage, cannot-create.
  package func check(_ models: [Model], and others: [String]) throws {
    try requireName(path, "report")
    for model in models { try model.refuseAlias(path) }
    try refuseAlias(result: path, sources: others)
    try requireCreatable(path, replacing: replacement)
  }

  /// Writes the file.
  /// - Throws: `RequestError` cannot-create, io.
  package func write(_ text: String) throws { try writeFile(path, Array(text.utf8), replacing: replacement) }
}

extension CalibrationSummary {
  /// Writes what a calibration did, in the form that the file's name asks for.
  /// - Throws: `RequestError` cannot-create, io.
  package func write(to file: ReportFile) throws {
    try file.write(ReportFile.isPicture(file.path) ? heatMap : page)
  }
}
