defmodule Emily.Doctor.Checks.Signature do
  @moduledoc """
  Whether what the cache keeps for the chosen variant is what the project signed, and what is
  installed is what the cache keeps: the signature vouches for the checksum, the checksum for the
  archive, and the archive for the manifest in `priv/`.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.{Archive, Cache, CacheError, Checksum, Manifest, NoReleaseKeyError}
  alias Emily.Artifact.{Release, Signature}
  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, %{selection: %{artifact: artifact}, cache: %{cache: cache}}) do
    # Where the library is built, whatever the cache keeps is not what runs.
    if Environment.built_here?(environment) do
      Outcome.ok("built here from source, nothing was downloaded")
    else
      with_key(environment, cache, artifact)
    end
  end

  defp with_key(environment, cache, artifact) do
    kept = [Cache.sidecar(cache, artifact), Cache.archive(cache, artifact)]

    case environment.keyring do
      {:ok, keyring} ->
        if Enum.any?(kept, &File.exists?/1),
          do: verify(environment, cache, artifact, keyring),
          else: Outcome.ok("nothing is cached for this variant")

      {:error, %NoReleaseKeyError{}} ->
        Outcome.error(
          "this copy of Emily carries no release key, so it installs nothing",
          environment.build
        )

      {:error, error} ->
        Outcome.error("this copy of Emily carries damaged release keys", environment.build,
          details: [{"expected", error.expected}, {"actual", error.actual}]
        )
    end
  end

  defp verify(environment, cache, artifact, keyring) do
    with {:ok, release} <- Release.cached(cache, artifact, keyring),
         {:ok, kept} <- compare(Cache.archive(cache, artifact), release.digest) do
      signed = "signed by the key #{Signature.id(release.key.id)}"

      if kept == :archive,
        do: origin(environment, cache, artifact, signed),
        else: Outcome.ok(signed)
    else
      {:error, error} ->
        Outcome.error("what is cached cannot be trusted", environment.reinstall,
          details: details(error, cache)
        )
    end
  end

  # The archive may be absent: what counts is that none stands there which was not signed.
  defp compare(path, digest) do
    case Checksum.file(path) do
      {:ok, ^digest} -> {:ok, :archive}
      {:ok, actual} -> {:error, %{path: path, expected: digest, actual: actual}}
      {:error, :enoent} -> {:ok, :checksum}
      {:error, reason} -> {:error, %CacheError{path: path, action: "read", reason: reason}}
    end
  end

  # Another project may have brought a release that was published anew into the cache they share.
  defp origin(environment, cache, artifact, signed) do
    {:ok, _manifest, text} = Archive.manifest(Cache.archive(cache, artifact), artifact)

    case File.read(Path.join(environment.priv, Manifest.name())) do
      {:ok, other} when other != text ->
        Outcome.warning(
          "#{signed}, but another release than the installed one",
          environment.reinstall
        )

      _same_or_absent ->
        Outcome.ok(signed)
    end
  end

  defp details(%CacheError{} = error, _cache) do
    [{"path", error.path}, {"reason", "#{:file.format_error(error.reason)}"}]
  end

  defp details(error, cache) do
    path = Map.get(error, :path) || Path.join(cache.root, name(error))
    [{"path", path}, {"expected", error.expected}, {"actual", error.actual}]
  end

  defp name(%{subject: subject}), do: subject
  defp name(%{asset: asset}), do: asset <> ".sha256"
end
