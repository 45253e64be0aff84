// The few system calls the package needs, under one spelling for Linux and macOS.

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Wording and small helpers around libc.
package enum Platform {
  // SAFETY: the system gets an address inside a buffer and at most what is left behind it, for the call only. A buffer without an
  // address has no bytes, so the loops do not run.
  /// The text of the last failed call, for example `No space left on device`.
  package static func lastError() -> String { text(of: errno) }

  /// The text of an error number.
  static func text(of code: Int32) -> String { String(cString: strerror(code)) }

  /// Flushes a file's data to the disk.
  static func syncData(_ descriptor: Int32) -> Int32 {
    #if canImport(Darwin)
      return fcntl(descriptor, F_FULLFSYNC) == 0 ? 0 : fsync(descriptor)
    #else
      return fdatasync(descriptor)
    #endif
  }

  /// Reads some bytes of a file, as the system's own call of that name.
  static func read(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
      return Glibc.read(descriptor, buffer, count)
    #elseif canImport(Musl)
      return Musl.read(descriptor, buffer, count)
    #else
      return Darwin.read(descriptor, buffer, count)
    #endif
  }

  /// Writes all bytes at the end of a file that is open for appending.
  /// - Returns: false when the system refuses; `lastError` says why.
  static func append(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Bool {
    writeAll(descriptor, bytes) == 0
  }

  /// Writes all bytes at a place of a file, however often the system takes a part only.
  /// - Returns: false when the system refuses; `lastError` says why.
  package static func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
    var done = 0
    while done < bytes.count {
      let step = pwrite(
        descriptor, bytes.baseAddress! + done, min(bytes.count - done, 1 << 30), off_t(offset + done))
      if step < 0 && errno == EINTR { continue }
      guard step > 0 else { return false }
      done += step
    }
    return true
  }

  /// Reads all bytes of a place of a file.
  /// - Returns: false when the system refuses, `lastError` says why, or when the file ends before.
  package static func read(_ descriptor: Int32, _ bytes: UnsafeMutableRawBufferPointer, at offset: Int)
    -> Bool
  {
    var done = 0
    while done < bytes.count {
      let step = pread(
        descriptor, bytes.baseAddress! + done, min(bytes.count - done, 1 << 30), off_t(offset + done))
      if step < 0 && errno == EINTR { continue }
      if step == 0 { errno = EIO }
      guard step > 0 else { return false }
      done += step
    }
    return true
  }

  /// A time stamp of a file's last change in nanoseconds.
  static func modified(_ status: stat) -> Int64 {
    #if canImport(Darwin)
      return Int64(status.st_mtimespec.tv_sec) * 1_000_000_000 + Int64(status.st_mtimespec.tv_nsec)
    #else
      return Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    #endif
  }
}

/// This process's peak resident memory in bytes: the high-water mark the system keeps (mapped pages count).
package func peakMemoryBytes() -> Int {
  var usage = rusage()
  #if canImport(Glibc)
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Int(usage.ru_maxrss) * 1024
  #elseif canImport(Musl)
    getrusage(RUSAGE_SELF, &usage)
    return Int(usage.ru_maxrss) * 1024
  #else
    getrusage(RUSAGE_SELF, &usage)
    return Int(usage.ru_maxrss)
  #endif
}

/// Memory that a new process can have: what Linux calls available, and not more than the least limit of the control groups that the
/// process is in; what others in the groups have is not taken off. On macOS all memory of the machine. Nil where the system does not
/// say.
package func availableMemoryBytes() -> Int? {
  #if canImport(Darwin)
    var size: UInt64 = 0
    var length = MemoryLayout<UInt64>.size
    return sysctlbyname("hw.memsize", &size, &length, nil, 0) == 0 ? Int(exactly: size) : nil
  #else
    func read(_ path: String) -> String? {
      guard let file = fopen(path, "r") else { return nil }
      defer { fclose(file) }
      var text: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 8192)
      // A table of mounts is longer than a page or two, and no file here has a megabyte.
      while text.count < 1 << 20, case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
        text += buffer[..<count]
      }
      return String(decoding: text, as: UTF8.self)
    }
    let line = read("/proc/meminfo")?.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
    let available = line.flatMap { Int($0.filter(\.isNumber)) }.map { $0 * 1024 }
    return [available, ControlGroups(read).memoryLimit].compactMap { $0 }.min()
  #endif
}

/// Returns the memory that is free inside the allocator to the system. Arrays of a layer's many sizes leave holes, and
/// without this the process would grow with the number of layers. Takes about a millisecond.
package func giveBackFreeMemory() { sk_give_back_free_memory() }

/// The number of cores the process may use.
package func coreCount() -> Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

/// Seconds since some fixed moment, never running backwards.
package func monotonicSeconds() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
}

/// Date and time in UTC: `2026-11-29T15:44:13Z`.
package func utcText() -> String {
  var now = time(nil)
  var parts = tm()
  gmtime_r(&now, &parts)
  func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
  return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
    + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
}

/// CPU seconds this process has used, all threads together.
package func processorSeconds() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
}

/// Writes all bytes where a descriptor stands (a pipe, a terminal, a file open for appending), however often the system takes
/// a part only.
/// - Returns: 0, or the error number.
package func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32 {
  var done = 0
  while done < bytes.count {
    let step = write(descriptor, bytes.baseAddress! + done, bytes.count - done)
    if step < 0 && errno == EINTR { continue }
    guard step > 0 else { return errno }
    done += step
  }
  return 0
}
