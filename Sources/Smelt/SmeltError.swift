// What can go wrong, in one type.

import SmeltStorage

/// Why something was refused or could not be done.
public struct SmeltError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Who must act.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// A file breaks its rule.
    case file
    /// Well-formed, but not supported.
    case unsupported
    /// What was asked for is contradictory, or something is missing.
    case usage
    /// The result cannot be created: it exists, or its folder does not.
    case cannotCreate = "cannot-create"
    /// The machine failed: disk full, input/output error.
    case io
    /// Stopped by a signal or by the cancellation of the task; nothing was left under the final name.
    case interrupted
  }

  /// Who must act.
  public var kind: Kind
  /// The stable name of the rule that a file breaks, as `Formats/errors.md` lists them; nil where no file is at fault.
  public var code: String?
  /// The file's name.
  public var file: String?
  /// The tensor, key or field.
  public var subject: String?
  /// The byte in `file` where the trouble starts.
  public var offset: Int?
  /// What was found and what was expected, or what cannot be done and why.
  public var problem: String
  /// What to do about it.
  public var help: String?
  /// The same for people: at most three lines.
  public var description: String
}

/// Runs something, its errors as callers know them.
func reportingErrors<T>(_ body: () throws -> T) throws -> T {
  do {
    return try body()
  } catch let error as FormatError {
    throw SmeltError(
      kind: error.exitStatus == 3 ? .unsupported : .file, code: error.code.name, file: error.file,
      subject: error.subject, offset: error.offset, problem: error.problem,
      help: error.help ?? error.code.remedy, description: error.description)
  } catch let error as RequestError {
    let kind: SmeltError.Kind =
      switch error.kind {
      case .unsupported: .unsupported
      case .usage: .usage
      case .cannotCreate: .cannotCreate
      case .io: .io
      case .interrupted: .interrupted
      }
    throw SmeltError(kind: kind, problem: error.problem, help: error.help, description: error.description)
  }
}
