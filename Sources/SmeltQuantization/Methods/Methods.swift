// How codes and scales are chosen: the list of methods. Formats/methods.md.

internal import SmeltStorage

/// A way to choose codes and scales, whatever the scheme.
package enum Method: String, Sendable, Hashable, CaseIterable {
  /// Round to nearest, scales by the recipe's observer.
  case rtn
  /// SmoothQuant. Source: Xiao, Lin, Seznec, Wu, Demouth, Han, 2022.
  case smooth
  /// Activation-aware scaling. Source: Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, 2023.
  case awq
  /// Column by column with the error passed on. Source: Frantar, Ashkboos, Hoefler, Alistarh, 2022.
  case gptq

  /// The method of a name.
  /// - Throws: `RequestError` usage, with the nearest name.
  package static func named(_ text: String) throws -> Method {
    guard let method = Method(rawValue: text.lowercased()) else {
      throw unknownName(text, kind: "method", among: allCases.map(\.rawValue))
    }
    return method
  }
}
