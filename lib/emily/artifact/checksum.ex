defmodule Emily.Artifact.Checksum do
  @moduledoc """
  SHA-256 digests as lower-case hexadecimal, and the sidecar that publishes one.

  A sidecar is one line as `sha256sum` writes it, `<64 digits>  <asset>`, so that
  `sha256sum --check` reads it too.
  """

  alias Emily.Artifact.SidecarError

  # Large reads keep the file server and the NIF calls out of the profile.
  @chunk 1_048_576

  @doc "The digest of bytes."
  @spec of(iodata()) :: String.t()
  def of(bytes), do: :crypto.hash(:sha256, bytes) |> hex()

  @doc "The digest of a file, read in pieces."
  @spec file(Path.t()) :: {:ok, String.t()} | {:error, File.posix()}
  def file(path) do
    with {:ok, io} <- :file.open(path, [:read, :raw, :binary]) do
      try do
        hash_file(io, :crypto.hash_init(:sha256))
      after
        :file.close(io)
      end
    end
  end

  defp hash_file(io, state) do
    case :file.read(io, @chunk) do
      {:ok, bytes} -> hash_file(io, :crypto.hash_update(state, bytes))
      :eof -> {:ok, finish(state)}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "The digest of everything that was fed to a `:crypto` hash state."
  @spec finish(:crypto.hash_state()) :: String.t()
  def finish(state), do: state |> :crypto.hash_final() |> hex()

  defp hex(digest), do: Base.encode16(digest, case: :lower)

  @doc """
  Reads the digest of an asset from its sidecar.

      iex> line = String.duplicate("a", 64) <> "  emily.tar.gz\\n"
      iex> {:ok, digest} = Emily.Artifact.Checksum.decode_sidecar(line, "emily.tar.gz")
      iex> digest == String.duplicate("a", 64)
      true
  """
  @spec decode_sidecar(binary(), String.t()) :: {:ok, String.t()} | {:error, SidecarError.t()}
  def decode_sidecar(text, asset) do
    case Regex.run(~r/\A([0-9a-f]{64})  ([^\n]+)\n\z/, text) do
      [_line, digest, ^asset] ->
        {:ok, digest}

      [_line, _digest, other] ->
        {:error,
         %SidecarError{
           asset: asset,
           expected: "the checksum of #{asset}",
           actual: "the checksum of #{other}"
         }}

      nil ->
        {:error,
         %SidecarError{
           asset: asset,
           expected: "one line: 64 hexadecimal digits, two spaces, #{asset}",
           actual: inspect(text, printable_limit: 80)
         }}
    end
  end
end
