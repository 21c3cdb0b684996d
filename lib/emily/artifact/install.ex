defmodule Emily.Artifact.Install do
  @moduledoc """
  Brings the wanted archive into `priv/`.

  1. The archive is brought into the cache and verified: `Emily.Artifact.Fetch`.
  2. It is unpacked into a temporary folder, after its manifest was held against this machine, and
     renamed into the cache; or an earlier unpacking is used, if every byte still matches.
  3. Its files are linked into `priv/`; see `Emily.Artifact.Priv`.

  A lock in the cache lets one process at a time do this for one archive. `installed?/3` answers
  without any of it: what is in `priv/` already is believed by name, version and size, so that a
  compile with nothing to do costs a few `stat` calls, or also by content. `mix compile.emily --force` goes through
  all the steps again, and so finds a release that was published anew.
  """

  alias Emily.{Artifact, Settings}

  alias Emily.Artifact.{
    Archive,
    Cache,
    CacheError,
    Fetch,
    Host,
    Keyring,
    Manifest,
    Priv,
    Retry
  }

  @enforce_keys [:artifact, :settings, :priv, :keyring, :notify]
  defstruct @enforce_keys ++ [host: &Host.detect/0, retry: %Retry{}, client: []]

  @typedoc """
  What an install says while it runs. A step is a change on disk that was just made.
  """
  @type event ::
          {:info, String.t()}
          | {:warning, String.t()}
          | {:progress, done :: non_neg_integer(), total :: pos_integer() | nil}
          | {:step, term()}

  @type t :: %__MODULE__{
          artifact: Artifact.t(),
          settings: Settings.t(),
          priv: Path.t(),
          keyring: Keyring.t(),
          notify: (event() -> any()),
          host: (-> Host.t()),
          retry: Retry.t(),
          client: keyword()
        }

  @doc "Whether there is nothing to do; costs no network and reads no library."
  @spec installed?(Path.t(), Artifact.t(), :size | :sha256) :: boolean()
  defdelegate installed?(priv, artifact, depth \\ :size), to: Priv

  @doc "Installs, whatever is in `priv/` now; nothing there changes unless all went well."
  @spec run(t()) :: {:ok, Manifest.t()} | {:error, Exception.t()}
  def run(%__MODULE__{} = install) do
    Fetch.with_lock(install.settings, install.artifact, install.notify, &locked(install, &1))
  end

  defp locked(install, cache) do
    fetch = %Fetch{
      artifact: install.artifact,
      settings: install.settings,
      keyring: install.keyring,
      notify: install.notify,
      retry: install.retry,
      client: install.client
    }

    with {:ok, archive, release} <- Fetch.run(fetch, cache),
         {:ok, folder, manifest} <- unpacked(install, cache, archive, release),
         :ok <- Priv.place(install.priv, folder, manifest, &step(install, &1)) do
      {:ok, manifest}
    end
  end

  ## The unpacked files

  defp unpacked(install, cache, archive, release) do
    folder = Cache.unpacked(cache, install.artifact, release.digest)

    with true <- File.dir?(folder),
         {:ok, manifest, text} <- Archive.manifest(archive, install.artifact),
         {:ok, ^text} <- File.read(Path.join(folder, Manifest.name())),
         [] <- Manifest.mismatches(manifest, folder, :sha256) do
      with :ok <- check_host(install, manifest), do: {:ok, folder, manifest}
    else
      _absent_or_damaged -> unpack(install, cache, archive, folder)
    end
  end

  defp unpack(install, cache, archive, folder) do
    temporary = Cache.temporary(cache, install.artifact)

    try do
      with :ok <- make(temporary),
           {:ok, manifest} <-
             Archive.unpack(archive, temporary, install.artifact, &check_host(install, &1)),
           step(install, :unpacked),
           :ok <- set_aside(install, cache, folder),
           :ok <- Cache.move(temporary, folder) do
        step(install, :unpacked_kept)
        {:ok, folder, manifest}
      end
    after
      File.rm_rf(temporary)
    end
  end

  defp check_host(install, manifest) do
    host = install.host.()

    with :ok <- Manifest.check_host(manifest, host) do
      warning = Manifest.absent_driver(manifest, host)
      if warning, do: install.notify.({:warning, warning})
      :ok
    end
  end

  defp make(folder) do
    with {:error, reason} <- File.mkdir(folder) do
      {:error, %CacheError{path: folder, action: "unpack the archive", reason: reason}}
    end
  end

  # A damaged folder leaves by rename too; what priv/ links to stays as it is.
  defp set_aside(install, cache, folder) do
    aside = Cache.temporary(cache, install.artifact)

    case File.rename(folder, aside) do
      :ok ->
        File.rm_rf(aside)
        :ok

      {:error, :enoent} ->
        :ok

      {:error, reason} ->
        {:error, %CacheError{path: folder, action: "replace damaged files", reason: reason}}
    end
  end

  defp step(install, step) do
    install.notify.({:step, step})
    :ok
  end
end
