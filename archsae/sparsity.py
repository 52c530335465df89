import torch
KERNELS = dict(silverman=lambda u: .5*torch.exp(-u.abs()/2**.5)*torch.sin(u.abs()/2**.5+torch.pi/4), gaussian=1, rectangle=lambda u: (u.abs()<.5).to(u))
def topk(pre, k):
    z = pre.relu(); b = z.topk(k, 1); return torch.zeros_like(z).scatter(1, b.indices, b.values)
def batch_topk(pre, k):
    z = pre.relu(); b = z.flatten().topk(k); return torch.zeros_like(z).flatten().scatter(0,b.indices,b.values).view_as(z), b.values[-1]
def threshold_codes(pre, t): return pre.relu() * (pre >= t)
class _J(torch.autograd.Function):
    @staticmethod
    def forward(ctx,x,t,k,bw): ctx.save_for_backward(x,t); ctx.k=k; ctx.bw=bw; return x*(x>=t)
    @staticmethod
    def backward(ctx,g): x,t=ctx.saved_tensors; return g*(x>=t), (-(t/ctx.bw)*KERNELS[ctx.k]((x-t)/ctx.bw)*g).sum(0), None, None
def jump_relu(x,t,kernel='silverman',bandwidth=1e-2): return _J.apply(x,t,kernel,bandwidth)
class _H(torch.autograd.Function):
    @staticmethod
    def forward(ctx,x,t,k,bw): ctx.save_for_backward(x,t); ctx.k=k; ctx.bw=bw; return (x>t).to(x)
    @staticmethod
    def backward(ctx,g): x,t=ctx.saved_tensors; return None, (-(1/ctx.bw)*KERNELS[ctx.k]((x-t)/ctx.bw)*g).sum(0), None, None
def heaviside(x,t,kernel='silverman',bandwidth=1e-2): return _H.apply(x,t,kernel,bandwidth)
