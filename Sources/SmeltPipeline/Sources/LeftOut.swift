// What a run has no place for: tensors that a named rule leaves out, and files beside the weights that a result does not take.

import SmeltContainers
import SmeltModels
package import SmeltStorage

/// Tensors of a source that one rule leaves out.
package struct LeftOut: Sendable {
  /// The rule's name.
  package var rule: String
  /// Why it leaves them out.
  package var reason: String
  /// How many tensors.
  package var tensors: Int
  /// Their bytes in the source.
  package var bytes: Int

  /// For machines.
  package var json: JSON {
    ["rule": JSON(rule), "reason": JSON(reason), "tensors": JSON(tensors), "bytes": JSON(bytes)]
  }

  /// For people: one line.
  package var text: String {
    "\(tensors) tensor\(tensors == 1 ? "" : "s") (\(byteText(bytes))) by rule '\(printable(excerpt(rule)))': \(reason)"
  }
}

/// A file of a source that a result does not take.
package struct LeftFile: Sendable, Hashable {
  /// Its name below the source's folder; a folder's ends in `/`.
  package var name: String
  /// Why it is left.
  package var reason: String
  /// Its size, where it was looked at.
  package var bytes: Int?

  /// A file that is left.
  package init(_ name: String, _ reason: String, bytes: Int? = nil) {
    self.name = name
    self.reason = reason
    self.bytes = bytes
  }

  /// For machines.
  package var json: JSON {
    [
      "name": JSON(name), "reason": JSON(reason), "bytes": bytes.map { JSON($0) } ?? JSON(.null),
    ]
  }
}

extension [LeftFile] {
  /// For people: a line for each reason.
  var lines: [String] {
    var reasons: [String] = []
    var names: [String: [String]] = [:]
    for file in self {
      if names[file.reason] == nil { reasons.append(file.reason) }
      names[file.reason, default: []].append(printable(excerpt(file.name)))
    }
    return reasons.map { reason in
      let all = names[reason] ?? []
      let more = all.count > 12 ? " and \(all.count - 12) more" : ""
      return "not carried: \(all.prefix(12).joined(separator: ", "))\(more) (\(reason))"
    }
  }
}

extension [LeftOut] {
  /// Counts tensors that a rule leaves out.
  mutating func add(_ rule: DropRule, tensors: Int, bytes: Int) {
    let place = firstIndex { $0.rule == rule.name } ?? count
    if place == count { append(LeftOut(rule: rule.name, reason: rule.reason, tensors: 0, bytes: 0)) }
    self[place].tensors += tensors
    self[place].bytes += bytes
  }
}
