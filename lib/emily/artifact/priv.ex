defmodule Emily.Artifact.Priv do
  @moduledoc """
  The folder that the native library is loaded from, and how its files are exchanged.

  Files are never written into: a running VM may have them mapped. All new files are first gathered
  in a folder beside them, and renaming that folder to `.next` is the decision. From then on the new
  state is the one that counts: `settle/1` moves the files to their places, `manifest.json` last, and
  whoever finds a `.next` that a killed process left does the same. So an interruption leaves the old
  files, or the new ones with a move to finish, and never a mixture that anyone uses.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{InstallError, Manifest, Targets}

  @next ".next"
  @staging ".staging-"

  @doc """
  Whether the archive's files are installed: the manifest is of this version, variant and target,
  and every file has its size, or its digest.
  """
  @spec installed?(Path.t(), Artifact.t(), :size | :sha256) :: boolean()
  def installed?(priv, %Artifact{} = artifact, depth) do
    with false <- File.exists?(Path.join(priv, @next)),
         {:ok, manifest} <- Manifest.read(priv),
         :ok <- Manifest.check(manifest, artifact) do
      Manifest.mismatches(manifest, priv, depth) == []
    else
      _absent -> false
    end
  end

  @doc """
  Puts the files of an unpacked archive in the place of what is installed.

  `step` hears of every change to the folder, after it was made.
  """
  @spec place(Path.t(), Path.t(), Manifest.t(), (term() -> any())) ::
          :ok | {:error, InstallError.t()}
  def place(priv, unpacked, %Manifest{} = manifest, step) do
    staging =
      Path.join(priv, @staging <> Base.encode16(:crypto.strong_rand_bytes(6), case: :lower))

    names = [Manifest.name() | Enum.map(manifest.files, & &1.name)]

    with :ok <- sweep(priv),
         :ok <- made(File.mkdir_p(staging), staging),
         :ok <- step.(:staging) |> done(),
         :ok <- each(names, &link(Path.join(unpacked, &1), Path.join(staging, &1), step)),
         :ok <- settle(priv, step),
         :ok <- moved(File.rename(staging, Path.join(priv, @next)), Path.join(priv, @next)),
         :ok <- step.(:decided) |> done() do
      settle(priv, step)
    else
      {:error, error} ->
        File.rm_rf(staging)
        {:error, error}
    end
  end

  @doc "Finishes an exchange that was decided and then interrupted; does nothing otherwise."
  @spec settle(Path.t(), (term() -> any())) :: :ok | {:error, InstallError.t()}
  def settle(priv, step \\ fn _step -> :ok end) do
    next = Path.join(priv, @next)

    case File.ls(next) do
      {:error, :enoent} ->
        :ok

      {:error, reason} ->
        moved({:error, reason}, next)

      {:ok, []} ->
        removed(File.rmdir(next), next)

      {:ok, names} ->
        with :ok <- move(priv, next, names, step), do: removed(File.rmdir(next), next)
    end
  end

  defp move(priv, next, names, step) do
    {manifest, files} = Enum.split_with(names, &(&1 == Manifest.name()))

    # Companions before the library that needs them: whoever loads it finds them.
    files = Enum.sort_by(files, &{String.starts_with?(&1, "libemily."), &1})

    with :ok <- each(files, &exchange(next, priv, &1, step)),
         :ok <- remove_others(priv, next, step) do
      each(manifest, &exchange(next, priv, &1, step))
    end
  end

  # Another process may be settling too: what it moved is moved. Between two links to one file,
  # which is what installing the same again comes to, a rename does nothing: hence the removal.
  defp exchange(next, priv, name, step) do
    source = Path.join(next, name)

    case File.rename(source, Path.join(priv, name)) do
      :ok ->
        File.rm(source)
        step.({:placed, name}) |> done()

      {:error, :enoent} ->
        :ok

      error ->
        moved(error, Path.join(priv, name))
    end
  end

  # Files of the variant that was here before.
  defp remove_others(priv, next, step) do
    case Manifest.read(next) do
      {:ok, manifest} ->
        kept = [Manifest.name() | Enum.map(manifest.files, & &1.name)]
        each(Targets.all_files() -- kept, &remove(Path.join(priv, &1), step))

      {:error, _moved_by_another} ->
        :ok
    end
  end

  defp remove(path, step) do
    case File.rm(path) do
      :ok -> step.({:removed, Path.basename(path)}) |> done()
      error -> removed(error, path)
    end
  end

  defp link(source, target, step) do
    linked =
      case File.ln(source, target) do
        :ok -> :ok
        # Another file system, or one without hard links.
        {:error, _reason} -> File.cp(source, target)
      end

    with :ok <- made(linked, target), do: step.({:staged, Path.basename(target)}) |> done()
  end

  @doc """
  What interrupted installs left in the folder: `:decided` if an exchange waits to be finished, and
  the folders that were gathered in vain. The next install sees to both.
  """
  @spec interrupted(Path.t()) :: %{decided: boolean(), folders: [Path.t()]}
  def interrupted(priv) do
    names = with {:error, _absent} <- File.ls(priv), do: {:ok, []}
    {:ok, names} = names

    %{
      decided: @next in names,
      folders: for(name <- names, String.starts_with?(name, @staging), do: Path.join(priv, name))
    }
  end

  # Staging folders are short-lived, and their owner holds the archive's lock.
  defp sweep(priv) do
    with {:ok, names} <- File.ls(priv) do
      for name <- names,
          String.starts_with?(name, @staging),
          do: File.rm_rf(Path.join(priv, name))
    end

    :ok
  end

  @doc "Removes everything that an install may have put there."
  @spec clean(Path.t()) :: :ok
  def clean(priv) do
    sweep(priv)
    File.rm_rf(Path.join(priv, @next))
    Enum.each(Targets.all_files(), &File.rm(Path.join(priv, &1)))
  end

  defp each(list, function) do
    Enum.find_value(list, :ok, fn item ->
      with :ok <- function.(item), do: nil
    end)
  end

  defp done(_heard), do: :ok

  defp made(:ok, _path), do: :ok
  defp made({:error, reason}, path), do: failed("put files into priv/", path, reason)

  defp moved(:ok, _path), do: :ok
  defp moved({:error, reason}, path), do: failed("exchange the files in priv/", path, reason)

  defp removed(:ok, _path), do: :ok
  defp removed({:error, :enoent}, _path), do: :ok
  defp removed({:error, reason}, path), do: failed("remove what was in priv/", path, reason)

  defp failed(action, path, reason) do
    {:error, %InstallError{path: path, action: action, reason: reason}}
  end
end
