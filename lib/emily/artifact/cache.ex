defmodule Emily.Artifact.Cache do
  @moduledoc """
  The folder that keeps verified downloads, shared by all of a user's projects.

      <cache>/v1/<asset>                    the archive
      <cache>/v1/<asset>.sha256             its checksum
      <cache>/v1/<asset>.sha256.minisig     the checksum's signature
      <cache>/v1/unpacked/<digest>-<name>/  the archive's files
      <cache>/v1/tmp/                       what is not verified yet, on the same file system
      <cache>/v1/locks/                     who is at work

  Files reach any place but `tmp/` by rename, after they were verified.
  """

  alias Emily.Artifact
  alias Emily.Artifact.CacheError
  alias Emily.Settings

  @bucket "v1"
  @folders ~w(unpacked tmp locks)

  @enforce_keys [:folder, :root]
  defstruct @enforce_keys

  @typedoc "The user's folder, and the bucket of this layout in it."
  @type t :: %__MODULE__{folder: Path.t(), root: Path.t()}

  @doc """
  Where the cache is, without touching it.

  `$EMILY_CACHE`; else `emily/` in the user's cache folder, which macOS tells through `getconf`
  and other systems through `XDG_CACHE_HOME` or `HOME`.
  """
  @spec locate(Settings.t(), Artifact.Host.environment()) :: {:ok, t()} | {:error, CacheError.t()}
  def locate(%Settings{} = settings, environment \\ Artifact.Host.environment()) do
    case folder(settings, environment) do
      nil ->
        {:error, %CacheError{action: "find the cache", reason: :no_home}}

      folder ->
        folder = Path.expand(folder)
        {:ok, %__MODULE__{folder: folder, root: Path.join(folder, @bucket)}}
    end
  end

  defp folder(%Settings{cache: cache}, _environment) when is_binary(cache), do: cache

  defp folder(settings, %{os_type: {:unix, :darwin}} = environment) do
    case environment.command.("getconf", ["DARWIN_USER_CACHE_DIR"]) do
      {:ok, folder} -> Path.join(String.trim(folder), "emily")
      :error -> xdg_folder(settings)
    end
  end

  defp folder(settings, _environment), do: xdg_folder(settings)

  defp xdg_folder(settings) do
    cond do
      folder = Settings.variable(settings, "XDG_CACHE_HOME") -> Path.join(folder, "emily")
      home = Settings.variable(settings, "HOME") -> Path.join(home, ".cache/emily")
      true -> nil
    end
  end

  @doc "Makes the cache's folders where they are missing, and refuses those of someone else."
  @spec open(t()) :: :ok | {:error, CacheError.t()}
  def open(%__MODULE__{} = cache) do
    uid = user_id()

    # Looked at before anything is made in it, and again for what others may have made meanwhile.
    with :ok <- check_owner(cache, uid),
         :ok <- make_all(folders(cache)) do
      check_owner(cache, uid)
    end
  end

  defp make_all(folders) do
    Enum.find_value(folders, :ok, fn folder ->
      with :ok <- make(folder), do: nil
    end)
  end

  # Parents get the usual mode; the cache's own folders are for their owner alone.
  defp make(folder) do
    with :ok <- File.mkdir_p(Path.dirname(folder)),
         :ok <- File.mkdir(folder),
         :ok <- File.chmod(folder, 0o700) do
      :ok
    else
      {:error, :eexist} ->
        :ok

      {:error, reason} ->
        {:error, %CacheError{path: folder, action: "make the cache", reason: reason}}
    end
  end

  @doc """
  Refuses a cache whose folders belong to another user: whoever owns them could exchange a file
  after it was verified. Folders that do not exist yet are fine.
  """
  @spec check_owner(t(), non_neg_integer()) :: :ok | {:error, CacheError.t()}
  def check_owner(%__MODULE__{} = cache, uid \\ user_id()) do
    Enum.find_value(folders(cache), :ok, fn folder ->
      case File.stat(folder) do
        {:ok, %File.Stat{uid: ^uid}} ->
          nil

        {:ok, %File.Stat{uid: owner}} ->
          {:error, foreign(folder, uid, owner)}

        {:error, :enoent} ->
          nil

        {:error, reason} ->
          {:error, %CacheError{path: folder, action: "look at the cache", reason: reason}}
      end
    end)
  end

  @doc "The cache's folders, each after the one that it is in."
  @spec folders(t()) :: [Path.t()]
  def folders(%__MODULE__{} = cache) do
    [cache.folder, cache.root | Enum.map(@folders, &Path.join(cache.root, &1))]
  end

  defp foreign(folder, uid, owner) do
    %CacheError{
      path: folder,
      action: "use the cache",
      reason: :owner,
      expected: "user #{uid}",
      actual: "user #{owner}"
    }
  end

  @doc "The number of the user that this VM acts as."
  @spec user_id() :: non_neg_integer()
  def user_id do
    {text, 0} = System.cmd("id", ["-u"])
    text |> String.trim() |> String.to_integer()
  end

  @doc "Where an archive stands."
  @spec archive(t(), Artifact.t()) :: Path.t()
  def archive(%__MODULE__{root: root}, artifact), do: Path.join(root, artifact.asset)

  @doc "Where an archive's checksum stands."
  @spec sidecar(t(), Artifact.t()) :: Path.t()
  def sidecar(%__MODULE__{root: root}, artifact), do: Path.join(root, Artifact.sidecar(artifact))

  @doc "Where the signature of an archive's checksum stands."
  @spec signature(t(), Artifact.t()) :: Path.t()
  def signature(%__MODULE__{root: root}, artifact) do
    Path.join(root, Artifact.signature(artifact))
  end

  @doc "Where the files of the archive with a digest stand."
  @spec unpacked(t(), Artifact.t(), String.t()) :: Path.t()
  def unpacked(%__MODULE__{root: root}, artifact, digest) do
    name = String.replace_suffix(artifact.asset, ".tar.gz", "")
    Path.join([root, "unpacked", binary_part(digest, 0, 16) <> "-" <> name])
  end

  @doc "Moves a verified file or folder to its place in the cache, in the place of what is there."
  @spec move(Path.t(), Path.t()) :: :ok | {:error, CacheError.t()}
  def move(from, to) do
    with {:error, reason} <- File.rename(from, to) do
      {:error, %CacheError{path: to, action: "move a file into the cache", reason: reason}}
    end
  end

  @doc "The lock of an archive, by its name."
  @spec lock(t(), String.t()) :: Artifact.Lock.t()
  def lock(%__MODULE__{} = cache, asset),
    do: %Artifact.Lock{resource: asset, folder: locks(cache), name: asset}

  @doc "The folder of the locks."
  @spec locks(t()) :: Path.t()
  def locks(%__MODULE__{root: root}), do: Path.join(root, "locks")

  @doc """
  A path in `tmp/` that nobody else uses, for one archive.

  It carries the machine's name: where a home folder is shared between machines, `sweep/2` must
  not take what another one is writing.
  """
  @spec temporary(t(), Artifact.t()) :: Path.t()
  def temporary(%__MODULE__{root: root}, artifact) do
    unique = Base.encode16(:crypto.strong_rand_bytes(6), case: :lower)
    Path.join([root, "tmp", prefix(artifact) <> unique])
  end

  defp prefix(artifact) do
    {:ok, machine} = :inet.gethostname()
    "#{artifact.asset}.#{machine}."
  end

  @doc "Removes what earlier, killed installs left in `tmp/`; the caller holds the archive's lock."
  @spec sweep(t(), Artifact.t()) :: :ok
  def sweep(%__MODULE__{root: root}, artifact) do
    folder = Path.join(root, "tmp")
    prefix = prefix(artifact)

    with {:ok, names} <- File.ls(folder) do
      for name <- names,
          String.starts_with?(name, prefix),
          do: File.rm_rf(Path.join(folder, name))
    end

    :ok
  end

  @doc "How many bytes the cache's file system has left, or `:unknown` where `df` cannot tell."
  @spec free_bytes(t()) :: {:ok, non_neg_integer()} | :unknown
  def free_bytes(%__MODULE__{folder: folder}) do
    with {output, 0} <- System.cmd("df", ["-Pk", nearest(folder)], stderr_to_stdout: true),
         [_head, line | _rest] <- String.split(output, "\n"),
         [_device, _blocks, _used, free | _rest] <- String.split(line),
         {kibibytes, ""} <- Integer.parse(free) do
      {:ok, kibibytes * 1024}
    else
      _unreadable -> :unknown
    end
  end

  defp nearest(folder) do
    if File.dir?(folder), do: folder, else: nearest(Path.dirname(folder))
  end
end
