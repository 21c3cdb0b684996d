# Reads a tensor's memory after the tensor is gone, which AddressSanitizer has to report.
alias Emily.Native

stream = Native.stream_new(:cpu)
Native.set_cache_limit(0)
bytes = :binary.copy(<<1>>, 4096)
tensor = Native.from_binary(stream, bytes, [4096], {:u, 8})
reference = make_ref()
:pending = Native.address(tensor, reference)

address =
  receive do
    {^reference, {:ok, address}} -> address
  end

:ok = Native.deallocate(tensor)
Native.from_address(stream, address, [4096], {:u, 8})
