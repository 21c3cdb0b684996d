defmodule Emily.Doctor.Checks.Signature do
  @moduledoc """
  Whether what the cache keeps for the chosen variant is what the project signed: the signature
  vouches for the checksum, and the checksum for the archive.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact
  alias Emily.Artifact.{Cache, Checksum, NoReleaseKeyError, Signature}
  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, %{selection: %{artifact: artifact}, cache: %{cache: cache}}) do
    cond do
      # Whatever the cache keeps, none of it is what runs.
      Environment.built_here?(environment) ->
        Outcome.ok("built here from source, nothing was downloaded")

      Enum.any?([Cache.sidecar(cache, artifact), Cache.archive(cache, artifact)], &File.exists?/1) ->
        verify(environment, cache, artifact)

      true ->
        Outcome.ok("nothing is cached for this variant")
    end
  end

  defp verify(environment, cache, artifact) do
    with {:ok, key} <- environment.release_key,
         {:ok, line} <- read(Cache.sidecar(cache, artifact)),
         {:ok, signature} <- read(Cache.signature(cache, artifact)),
         :ok <- Signature.verify(line, signature, key, Artifact.sidecar(artifact)),
         {:ok, digest} <- Checksum.decode_sidecar(line, artifact.asset),
         {:ok, about} <- compare(Cache.archive(cache, artifact), digest) do
      Outcome.ok("#{about}, signed by the key #{Signature.id(key.id)}")
    else
      {:error, %NoReleaseKeyError{}} ->
        Outcome.error(
          "this copy of Emily carries no release key to check the cache with",
          environment.build
        )

      {:error, error} ->
        refuse(error, environment, cache, artifact)
    end
  end

  defp read(path) do
    with {:error, reason} <- File.read(path) do
      {:error, %File.Error{reason: reason, action: "read file", path: path}}
    end
  end

  # An archive may be absent: what counts is that none stands there which was not signed.
  defp compare(path, digest) do
    case Checksum.file(path) do
      {:ok, ^digest} -> {:ok, "the cached archive is as released"}
      {:ok, actual} -> {:error, %{path: path, expected: digest, actual: actual}}
      {:error, :enoent} -> {:ok, "the cached checksum is as released"}
      {:error, reason} -> {:error, %File.Error{reason: reason, action: "read file", path: path}}
    end
  end

  defp refuse(error, environment, cache, artifact) do
    Outcome.error(
      "what is cached cannot be trusted",
      "rm -f #{Cache.archive(cache, artifact)}* && #{environment.reinstall}",
      details: details(error, cache)
    )
  end

  defp details(%File.Error{} = error, _cache) do
    [{"path", error.path}, {"reason", "#{:file.format_error(error.reason)}"}]
  end

  defp details(error, cache) do
    path = Map.get(error, :path) || Path.join(cache.root, name(error))
    [{"path", path}, {"expected", error.expected}, {"actual", error.actual}]
  end

  defp name(%{subject: subject}), do: subject
  defp name(%{asset: asset}), do: asset <> ".sha256"
end
