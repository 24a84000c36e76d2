import cProfile, pstats, sys, io, time
import torch, timm
from pathlib import Path
import corrkit.checkpoints.recognition as R
R.require_usable=lambda *a: None
from corrkit.checkpoints.opening import Opened
from corrkit.errors import CheckpointError
for name in ("bat_resnext26ts","beit_base_patch16_224","cait_m36_384"):
    t=time.process_time()
    with torch.device("meta"): m=timm.create_model(name)
    t1=time.process_time()
    tree={k: torch.full((), .01 if v.is_floating_point() else 1, dtype=torch.float16 if v.is_floating_point() else v.dtype).expand(v.shape) for k,v in m.state_dict().items()}
    p=cProfile.Profile(); p.enable()
    try: R.recognise(Opened(tree=tree, container="s", digest="", path=Path("f.pth"))); 
    except CheckpointError as e: print(str(e)[:200])
    p.disable()
    print(name, "build", t1-t, "rec", time.process_time()-t1)
    s=io.StringIO(); pstats.Stats(p,stream=s).sort_stats("cumtime").print_stats(14); print(s.getvalue()[:3000])
